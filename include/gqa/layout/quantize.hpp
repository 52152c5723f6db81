// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Rounding a row of numbers, a key, a value or a query of one head, to integers of 8 or 4 bits and
// one scale: x ≈ scale · integer. A token is quantised once, when it is appended, so that rolling
// back is exact.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "gqa/core/dtype.hpp"
#include "gqa/core/error.hpp"

namespace gqa {

/// The most channels that a key may have: machines with dot products of bytes add up 255 (of Int4,
/// 15) times 127 for each of them, in 32 bits. 66,311 of Int8, 1,127,288 of Int4.
template <StorageType Storage>
inline constexpr Index max_head_dim =
    is_quantized<Storage> ? (std::numeric_limits<std::int32_t>::max)() /
                                (127 * (std::same_as<Storage, Int4> ? 15 : 255))
                          : (std::numeric_limits<Index>::max)();

/// Throws std::length_error for more.
GQA_TAG inline void check_head_dim(const char* who, Dtype storage, Index head_dim) {
  const Index most = storage == Dtype::int8   ? max_head_dim<Int8>
                     : storage == Dtype::int4 ? max_head_dim<Int4>
                                              : max_head_dim<float>;
  if (head_dim > most) {
    detail::throw_length_error({who, ": head_dim ", head_dim, " exceeds ", most,
                                ", beyond which sums of ", scalar_name(storage),
                                " products may exceed 32 bits"});
  }
}

/// The largest |x| of a row of n numbers; NaN if one isn't finite. Without their signs, floats are
/// in the order of their bits.
template <Scalar T>
GQA_TAG float largest_of(const T* row, Index n) {
  constexpr std::uint32_t sign = 0x80000000, infinity = 0x7f800000;
  std::uint32_t largest = 0;
  for (Index i = 0; i < n; ++i) {
    largest = (std::max)(largest, std::bit_cast<std::uint32_t>(convert<float>(row[i])) & ~sign);
  }
  return largest < infinity ? std::bit_cast<float>(largest)
                            : std::numeric_limits<float>::quiet_NaN();
}

/// The scale of a row of n numbers of which the largest |x| becomes 127: 0 if all are 0 (or nearly:
/// below 127 · 2^-126 = 1.5e-36, so that scales are normal numbers), NaN if one isn't finite, which
/// makes the whole row NaN.
template <Scalar T>
GQA_TAG float int8_scale(const T* row, Index n) {
  const float scale = largest_of(row, n) / 127.0f;
  return scale < (std::numeric_limits<float>::min)() ? 0.0f : scale;
}

namespace detail {

/// The integer nearest to x, of two the even one; |x| < 2^22. The sum with 1.5 * 2^23 has no
/// fraction left, and the integer in its low bits. They are taken as bits: of sum - shift, a
/// compiler that may reorder sums (-fassociative-math) would make x.
GQA_TAG inline std::int32_t round_to_integer(float x) {
  constexpr float shift = 12582912.0f;
  return std::bit_cast<std::int32_t>(x + shift) - std::bit_cast<std::int32_t>(shift);
}
GQA_TAG inline float round_to_int4(float x) {
  const auto integer = static_cast<float>(round_to_integer(x));
  return integer < -8.0f ? -8.0f : integer > 7.0f ? 7.0f : integer;
}

}  // namespace detail

/// The scale for integers in [-8, 7]; 0 (below 9 · 2^-126 = 1.1e-37) and NaN as above. Which
/// multiple of it the largest |x| best is depends on the other numbers: many small ones like finer
/// steps, at the price of cutting off the largest. 7, 8 and 9 are tried for the least sum of
/// squared errors. (Normal numbers, 128 of them: a relative RMS error of 0.118 with 7 always, 0.103
/// so; 0.102 with 10 and halves between, too; 0.100 with a zero point, at the price of another
/// number per token and of more sums at each step.)
template <Scalar T>
GQA_TAG float int4_scale(const T* row, Index n) {
  const float largest = largest_of(row, n);
  if (largest < 9 * (std::numeric_limits<float>::min)()) return 0;
  float best = largest, least = std::numeric_limits<float>::infinity();  // NaN stays what it is
  for (const float steps : {7.0f, 8.0f, 9.0f}) {
    const float inverse = steps / largest;
    const auto squared_error = [&](Index i) {
      const float x = convert<float>(row[i]) * inverse;
      const float error = x - detail::round_to_int4(x);
      return error * error;
    };
    float sums[16] = {};  // one alone would wait for itself at each step
    Index i = 0;
    for (; i + 16 <= n; i += 16) {
      for (Index j = 0; j < 16; ++j) sums[j] += squared_error(i + j);
    }
    for (Index j = 0; i + j < n; ++j) sums[j] += squared_error(i + j);
    float sum = 0;
    for (const float part : sums) sum += part;
    sum /= steps * steps;
    if (sum < least) least = sum, best = largest / steps;
  }
  return best;
}

/// The scale of a row that is to become Int8 or Int4.
template <typename Storage, Scalar T>
  requires is_quantized<Storage>
GQA_TAG float scale_of(const T* row, Index n) {
  return std::same_as<Storage, Int4> ? int4_scale(row, n) : int8_scale(row, n);
}

/// Calls put(i, integer) for each number of a row, rounded to nearest, of which scale_of() gave the
/// scale.
template <typename Storage = Int8, Scalar T, typename Put>
  requires is_quantized<Storage>
GQA_TAG void quantize(const T* row, Index n, float scale, Put put) {
  if (!(scale > 0)) {  // NaN, too
    for (Index i = 0; i < n; ++i) put(i, std::int8_t{0});
    return;
  }
  const float inverse = 1.0f / scale;
  const auto rounded = [&](Index i) {
    const float x = convert<float>(row[i]) * inverse;
    if constexpr (std::same_as<Storage, Int4>) {
      return static_cast<std::int8_t>(detail::round_to_int4(x));
    } else {
      return static_cast<std::int8_t>(detail::round_to_integer(x));
    }
  };
  // A constant number at a time is rounded in vector registers, whatever put() does.
  constexpr Index chunk = 32;
  Index done = 0;
  for (; done + chunk <= n; done += chunk) {
    std::int8_t integers[chunk];
    for (Index i = 0; i < chunk; ++i) integers[i] = rounded(done + i);
    for (Index i = 0; i < chunk; ++i) put(done + i, integers[i]);
  }
  for (; done < n; ++done) put(done, rounded(done));
}

}  // namespace gqa
