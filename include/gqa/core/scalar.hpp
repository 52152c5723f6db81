// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The number types. Queries, keys, values and outputs may be float, double, bfloat16 or half;
// sums are kept in AccumulatorOf<T>: float, or double for double.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "gqa/core/scalar16.hpp"

namespace gqa {

namespace detail {
template <typename T>
concept IsBfloat16 = std::same_as<Native<T>, Bfloat16>;
template <typename T>
concept IsHalf = std::same_as<Native<T>, Half>;
}  // namespace detail

/// A type that keys, values, queries and outputs can have.
template <typename T>
concept Scalar =
    std::same_as<T, float> || std::same_as<T, double> || detail::IsBfloat16<T> || detail::IsHalf<T>;

/// An element of quantised keys and values: `value` times a scale, which is one float per token and
/// KV head. A storage type of caches only: scales lie beside the elements (layout/strips.hpp).
struct Int8 {
  std::int8_t value = 0;
};

/// Two such elements of four bits each, in [-8, 7].
struct Int4 {
  std::uint8_t pair = 0;  ///< the first in the lower bits; two's complement
};

template <typename T>
inline constexpr bool is_quantized = std::same_as<T, Int8> || std::same_as<T, Int4>;

/// Elements in one object of a storage type.
template <typename T>
inline constexpr int elements_per = std::same_as<T, Int4> ? 2 : 1;

/// The integer of an element; `which` of the two of an Int4.
GQA_TAG constexpr int integer_of(Int8 x, Index /*which*/) { return x.value; }
GQA_TAG constexpr int integer_of(Int4 x, Index which) {
  return ((x.pair >> (4 * which) & 15) ^ 8) - 8;
}
GQA_TAG constexpr void set_integer(Int8& x, Index /*which*/, int integer) {
  x.value = static_cast<std::int8_t>(integer);
}
GQA_TAG constexpr void set_integer(Int4& x, Index which, int integer) {
  x.pair = static_cast<std::uint8_t>(which == 0 ? (x.pair & 0xf0) | (integer & 15)
                                                : (x.pair & 15) | (integer & 15) << 4);
}

/// What caches can keep keys and values as.
template <typename T>
concept StorageType = Scalar<T> || is_quantized<T>;

/// What sums of T are kept in, whatever the storage: float, except for double.
template <typename... T>
using AccumulatorOf =
    std::conditional_t<(std::same_as<std::remove_cv_t<T>, double> || ...), double, float>;

namespace detail {

/// x as a float on the same side of every 16-bit number, and of every tie between two, as x itself:
/// the neighbour whose last bit is 1. Rounding that once more is rounding x. Rounded to nearest on
/// the way, an x just beside a tie would become the tie.
GQA_TAG constexpr float round_to_odd(double x) {
  // By way of its bits, x87 keeps a float in no more of them than it has.
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(x));
  const auto nearest = std::bit_cast<float>(bits);
  const bool exact = static_cast<double>(nearest) == x || x != x;
  if (exact || bits % 2 == 1) return nearest;
  const double size = x < 0 ? -x : x, same = static_cast<double>(nearest),
               nearest_size = same < 0 ? -same : same;
  return std::bit_cast<float>(size > nearest_size ? bits + 1 : bits - 1);
}

}  // namespace detail

/// Rounds to nearest even where To is narrower. (By reference: gcc 12 does not vectorise loops over
/// copies of structs.)
template <Scalar To, Scalar From>
GQA_TAG constexpr To convert(const From& x) {
  if constexpr (std::same_as<To, From>) {
    return x;
  } else if constexpr (std::same_as<detail::Native<To>, detail::Native<From>>) {
    return std::bit_cast<To>(x);
  } else if constexpr (std::same_as<From, double>) {
    if constexpr (sizeof(To) == 2) {
      return To(detail::round_to_odd(x));
    } else {
      return static_cast<To>(x);
    }
  } else {
    return static_cast<To>(static_cast<float>(x));
  }
}

}  // namespace gqa
