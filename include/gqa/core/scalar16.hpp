// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Numbers of 16 bits. Users know them as Eigen's bfloat16 and half, which a program has that
// includes Eigen, before or after this. Here they are names: the library computes with two types of
// its own that hold the same bits, so that it needs no header of Eigen's.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "gqa/core/config.hpp"

namespace Eigen {
struct bfloat16;
struct half;
}  // namespace Eigen

namespace gqa {

using bfloat16 = Eigen::bfloat16;
using half = Eigen::half;

namespace detail {

/// The upper half of a float, rounded to nearest even; NaN stays NaN.
GQA_TAG constexpr std::uint16_t bfloat16_bits(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t nan = (bits >> 16 & 0x8000) | 0x7fc0;
  const std::uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return static_cast<std::uint16_t>(x != x ? nan : rounded);
}
GQA_TAG constexpr float from_bfloat16_bits(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

#if defined(GQA_F16C)
typedef short Shorts8 __attribute__((vector_size(16)));
typedef float Floats4 __attribute__((vector_size(16)));
#endif

/// IEEE binary16, rounded to nearest even; NaN becomes the one of its sign, on every machine.
GQA_TAG inline std::uint16_t half_bits(float x) {
  const auto given = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = given >> 16 & 0x8000, size = given & 0x7fffffff;
  if (size > 0x7f800000) return static_cast<std::uint16_t>(sign | 0x7e00);
#if defined(GQA_F16C)
  const Shorts8 halves = __builtin_ia32_vcvtps2ph(Floats4{x, 0, 0, 0}, 0);
  return static_cast<std::uint16_t>(halves[0]);
#elif defined(__aarch64__) && defined(__ARM_FP16_FORMAT_IEEE)
  return std::bit_cast<std::uint16_t>(static_cast<__fp16>(x));
#else
  if (size >= 0x47800000) return static_cast<std::uint16_t>(sign | 0x7c00);  // 2^16 and more
  if (size < 0x38800000) {  // below 2^-14, where half's last bit is 2^-24: that of a float at 0.5
    const float shifted = std::bit_cast<float>(size) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000));
  }
  constexpr std::uint32_t rebias = (127 - 15) << 23;
  return static_cast<std::uint16_t>(sign | (size - rebias + 0xfff + (size >> 13 & 1)) >> 13);
#endif
}
GQA_TAG inline float from_half_bits(std::uint16_t bits) {
#if defined(GQA_F16C)
  return __builtin_ia32_vcvtph2ps(Shorts8{static_cast<short>(bits), 0, 0, 0, 0, 0, 0, 0})[0];
#elif defined(__aarch64__) && defined(__ARM_FP16_FORMAT_IEEE)
  return static_cast<float>(std::bit_cast<__fp16>(bits));
#else
  const std::uint32_t sign = std::uint32_t{bits} << 16 & 0x80000000;
  std::uint32_t size = (std::uint32_t{bits} & 0x7fff) << 13;
  const std::uint32_t exponent = size & 0x0f800000;
  if (exponent == 0) {  // times 2^-24, exactly
    const float tiny = static_cast<float>(bits & 0x7fff) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(tiny) | sign);
  }
  size += (127 - 15) << 23;
  if (exponent == 0x0f800000) size += (128 - 16) << 23;  // infinity, NaN
  return std::bit_cast<float>(size | sign);
#endif
}

/// A bfloat16, in the library's own memory or in a user's tensor of Eigen's.
struct GQA_MAY_ALIAS Bfloat16 {
  std::uint16_t bits;

  Bfloat16() = default;
  GQA_TAG constexpr explicit Bfloat16(float x) : bits(bfloat16_bits(x)) {}
  GQA_TAG constexpr operator float() const {  // NOLINT(google-explicit-constructor): it is exact
    return from_bfloat16_bits(bits);
  }
};

/// The same of a half.
struct GQA_MAY_ALIAS Half {
  std::uint16_t bits;

  Half() = default;
  GQA_TAG explicit Half(float x) : bits(half_bits(x)) {}
  GQA_TAG operator float() const {  // NOLINT(google-explicit-constructor): it is exact
    return from_half_bits(bits);
  }
};

template <typename T>
struct NativeOf {
  using Type = T;
};
template <>
struct NativeOf<bfloat16> {
  using Type = Bfloat16;
};
template <>
struct NativeOf<half> {
  using Type = Half;
};
template <typename T>
struct NativeOf<const T> {
  using Type = const typename NativeOf<T>::Type;
};

/// The type that the library computes with where a user says T: the bits are the same.
template <typename T>
using Native = typename NativeOf<T>::Type;

}  // namespace detail
}  // namespace gqa
