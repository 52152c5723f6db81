// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Dtype: a storage type by number, where a program reads it from a file or an option.
#pragma once

#include "gqa/core/error.hpp"
#include "gqa/core/scalar.hpp"

namespace gqa {

/// A storage type known at run time.
enum class Dtype { f64, f32, f16, bf16, int8, int4 };

/// The Dtype of a storage type.
template <StorageType T>
inline constexpr Dtype dtype_of = std::same_as<T, double>  ? Dtype::f64
                                  : std::same_as<T, float> ? Dtype::f32
                                  : detail::IsHalf<T>      ? Dtype::f16
                                  : detail::IsBfloat16<T>  ? Dtype::bf16
                                  : std::same_as<T, Int8>  ? Dtype::int8
                                                           : Dtype::int4;

/// The name that explain(), benchmarks and messages use.
GQA_TAG constexpr const char* scalar_name(Dtype dtype) {
  constexpr const char* names[] = {"f64", "f32", "f16", "bf16", "int8", "int4"};
  return names[static_cast<int>(dtype)];
}
template <StorageType T>
GQA_TAG constexpr const char* scalar_name() {
  return scalar_name(dtype_of<T>);
}

/// Calls f.operator()<Storage>() with the storage type of a Dtype.
template <typename F>
GQA_TAG decltype(auto) with_storage(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::f64:
      return f.template operator()<double>();
    case Dtype::f32:
      return f.template operator()<float>();
    case Dtype::f16:
      return f.template operator()<half>();
    case Dtype::bf16:
      return f.template operator()<bfloat16>();
    case Dtype::int8:
      return f.template operator()<Int8>();
    case Dtype::int4:
      return f.template operator()<Int4>();
  }
  detail::throw_invalid_argument({"with_storage: no dtype has the number ", int(dtype)});
}

}  // namespace gqa
