// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Sizes that a user or a file gives, multiplied: nothing overflows on the way, so that absurd ones
// are refused instead of becoming a little memory that is then written beyond.
#pragma once

#include <initializer_list>
#include <limits>
#include <string>

#include "gqa/core/error.hpp"
#include "gqa/core/math.hpp"

namespace gqa {
namespace detail {

[[noreturn]] GQA_COLD GQA_TAG inline void refuse_bytes(const char* who,
                                                       std::initializer_list<Index> sizes) {
  std::string factors;
  for (const Index n : sizes) factors = message(factors, factors.empty() ? "" : " x ", n);
  throw_length_error({who, ": ", factors, " bytes are more than ",
                      std::numeric_limits<Index>::digits, " bits count"});
}

}  // namespace detail

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
  if (!fits) detail::refuse_bytes(who, sizes);
  return bytes;
}

}  // namespace gqa
