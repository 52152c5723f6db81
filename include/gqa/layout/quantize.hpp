// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Rounding a row of numbers, a key, a value or a query of one head, to integers of 8 bits and one
// scale: x ≈ scale · integer, the largest |x| being 127 scales. A token is quantised once, when it
// is appended, so that rolling back is exact.
#pragma once

#include <cmath>
#include <limits>

#include "gqa/core/scalar.hpp"

namespace gqa {

/// The scale of a row of n numbers: 0 if all are 0 (or nearly: smaller than normal numbers allow),
/// NaN if one isn't finite, which makes the whole row NaN.
template <Scalar T>
float int8_scale(const T* row, Index n) {
  float largest = 0, poison = 0;
  for (Index i = 0; i < n; ++i) {
    const float x = convert<float>(row[i]);
    largest = std::abs(x) > largest ? std::abs(x) : largest;
    poison += x * 0.0f;  // NaN for infinities, too
  }
  const float scale = largest / 127.0f;
  return (scale < std::numeric_limits<float>::min() ? 0.0f : scale) + poison;
}

/// Calls put(i, integer) for each number of a row, rounded to nearest, of which int8_scale() gave the
/// scale.
template <Scalar T, typename Put>
void quantize(const T* row, Index n, float scale, Put put) {
  if (!(scale > 0)) {  // NaN, too
    for (Index i = 0; i < n; ++i) put(i, std::int8_t{0});
    return;
  }
  const float inverse = 1.0f / scale;
  constexpr float shift = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction
  for (Index i = 0; i < n; ++i) {
    put(i, static_cast<std::int8_t>((convert<float>(row[i]) * inverse + shift) - shift));
  }
}

}  // namespace gqa
