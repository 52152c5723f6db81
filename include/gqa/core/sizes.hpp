// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Sizes that a user or a file gives, multiplied and added: nothing overflows on the way, so that
// absurd ones are refused instead of becoming a little memory that is then written beyond.
#pragma once

#include <initializer_list>
#include <limits>
#include <stdexcept>

#include "gqa/core/heads.hpp"

namespace gqa {

/// The product of sizes, none negative, that are to be taken as memory. Throws std::length_error
/// where it is more than an Index counts.
GQA_TAG inline Index memory_bytes(const char* who, std::initializer_list<Index> sizes) {
  constexpr int bits = std::numeric_limits<Index>::digits;
  constexpr Index most = (std::numeric_limits<Index>::max)(), moderate = Index{1} << bits / 2;
  Index bytes = 1;
  bool fits = true;
  for (const Index size : sizes) {
    GQA_ASSERT(size >= 0);
    if (size == 0) return 0;
    const bool both_moderate = bytes < moderate && size < moderate;  // spares the division
    fits = fits && (both_moderate || bytes <= most / size);
    if (fits) bytes *= size;
  }
  if (!fits) {
    std::string factors;
    for (const Index n : sizes) factors = message(factors, factors.empty() ? "" : " x ", n);
    throw std::length_error(
        message(who, ": ", factors, " bytes are more than ", bits, " bits count"));
  }
  return bytes;
}

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
