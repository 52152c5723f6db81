// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Whole numbers: sizes in blocks, and sums of positions that stay in range.
#pragma once

#include <limits>

#include "gqa/core/config.hpp"

namespace gqa {

/// The least multiple that is n or more, of n >= 0.
GQA_TAG constexpr Index round_up(Index n, Index multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
/// n / d, rounded up; overflows nowhere.
GQA_TAG constexpr Index ceil_div(Index n, Index d) { return n / d + (n % d > 0); }

namespace detail {

/// a + b, or the number nearest to it that an Index holds: for positions and windows, where the
/// largest Index is "no limit" in many a program, and for messages about what doesn't fit.
GQA_TAG constexpr Index saturated_sum(Index a, Index b) {
  using Limits = std::numeric_limits<Index>;
  if (b > 0 && a > (Limits::max)() - b) return (Limits::max)();
  if (b < 0 && a < (Limits::min)() - b) return (Limits::min)();
  return a + b;
}
/// a - b in the same way.
GQA_TAG constexpr Index saturated_difference(Index a, Index b) {
  using Limits = std::numeric_limits<Index>;
  if (b > 0 && a < (Limits::min)() + b) return (Limits::min)();
  if (b < 0 && a > (Limits::max)() + b) return (Limits::max)();
  return a - b;
}
/// n == a * b, without forming the product.
GQA_TAG constexpr bool is_product(Index n, Index a, Index b) {
  return a == 0 || b == 0 ? n == 0 : n % a == 0 && n / a == b;
}

}  // namespace detail
}  // namespace gqa
