// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The number types. Queries, keys, values and outputs may be float, double, bfloat16 or half;
// sums are kept in AccumulatorOf<T>: float, or double for double.
#pragma once

#include <concepts>
#include <type_traits>

#include "gqa/core/config.hpp"
#include "gqa/core/eigen.hpp"

namespace gqa {

using bfloat16 = Eigen::bfloat16;
using half = Eigen::half;

/// A type that keys, values, queries and outputs can have.
template <typename T>
concept Scalar = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, bfloat16> ||
                 std::same_as<T, half>;

/// What sums of T are kept in, whatever the storage: float, except for double.
template <typename... T>
using AccumulatorOf =
    std::conditional_t<(std::same_as<std::remove_cv_t<T>, double> || ...), double, float>;

/// Rounds to nearest even where To is narrower.
template <Scalar To, Scalar From>
constexpr To convert(From x) {
  if constexpr (std::same_as<To, From>) {
    return x;
  } else if constexpr (std::same_as<To, double> || std::same_as<From, double>) {
    if constexpr (sizeof(To) == 2) {
      return To(static_cast<float>(x));
    } else {
      return static_cast<To>(static_cast<std::conditional_t<sizeof(From) == 2, float, From>>(x));
    }
  } else {
    return static_cast<To>(static_cast<float>(x));
  }
}

/// The name that explain(), benchmarks and messages use.
template <Scalar T>
constexpr const char* scalar_name() {
  if constexpr (std::same_as<T, float>) {
    return "f32";
  } else if constexpr (std::same_as<T, double>) {
    return "f64";
  } else if constexpr (std::same_as<T, bfloat16>) {
    return "bf16";
  } else {
    return "f16";
  }
}

}  // namespace gqa
