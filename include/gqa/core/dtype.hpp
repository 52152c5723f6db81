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
