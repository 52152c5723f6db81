// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The library's own numbers of 16 bits against Eigen's, bit for bit.
#include "gqa/core/scalar16.hpp"

#include <gtest/gtest.h>

#include <initializer_list>

#include "gqa/core/eigen.hpp"
#include "gqa/core/scalar.hpp"

namespace gqa::test {
namespace {

static_assert(std::same_as<bfloat16, Eigen::bfloat16> && std::same_as<half, Eigen::half>);
static_assert(std::same_as<detail::Native<const half>, const detail::Half> &&
              std::same_as<detail::Native<float>, float>);

template <typename T>
std::uint16_t bits_of(T x) {
  return std::bit_cast<std::uint16_t>(x);
}

/// A signalling NaN becomes a quiet one on some machines.
std::uint32_t quiet_bits(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return x == x ? bits : bits | 0x00400000;
}

template <typename T>
void expect_the_floats_of_eigen() {
  using Own = detail::Native<T>;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const auto expected = static_cast<float>(std::bit_cast<T>(bits));
    const auto got = static_cast<float>(std::bit_cast<Own>(bits));
    ASSERT_EQ(quiet_bits(got), quiet_bits(expected)) << bits;
    ASSERT_EQ(bits_of(convert<T>(std::bit_cast<Own>(bits))), bits);
    ASSERT_EQ(bits_of(convert<Own>(std::bit_cast<T>(bits))), bits);
  }
}

template <typename T>
inline constexpr std::uint16_t nan_bits = std::same_as<T, half> ? 0x7e00 : 0x7fc0;

/// Every upper half of a float with lower halves and neighbours of ties of 16 and of 10 bits.
template <typename T>
void expect_the_rounding_of_eigen() {
  using Own = detail::Native<T>;
  for (std::uint32_t upper = 0; upper < 65536; ++upper) {
    for (const std::uint32_t lower :
         {0x0000u, 0x0001u, 0x0fffu, 0x1000u, 0x1001u, 0x1fffu, 0x2000u,
          0x2fffu, 0x3000u, 0x3001u, 0x5000u, 0x7000u, 0x7fffu, 0x8000u,
          0x8001u, 0x9000u, 0xb000u, 0xefffu, 0xf000u, 0xf001u, 0xffffu}) {
      const auto x = std::bit_cast<float>(upper << 16 | lower);
      const bool is_nan = x != x;
      const auto sign = static_cast<std::uint16_t>(upper & 0x8000);
      // Of a NaN, Eigen keeps the sign, and more of it where it has instructions for halves.
      ASSERT_EQ(bits_of(Own(x)), is_nan ? (sign | nan_bits<T>) : bits_of(T(x)))
          << std::hex << (upper << 16 | lower);
      ASSERT_EQ(convert<float>(T(x)) != convert<float>(T(x)), is_nan);
      ASSERT_EQ(bits_of(convert<Own>(x)), bits_of(Own(x)));
    }
  }
}

TEST(Bfloat16, WidensAsEigens) { expect_the_floats_of_eigen<bfloat16>(); }
TEST(Bfloat16, RoundsAsEigens) { expect_the_rounding_of_eigen<bfloat16>(); }
TEST(Half, WidensAsEigens) { expect_the_floats_of_eigen<half>(); }
TEST(Half, RoundsAsEigens) { expect_the_rounding_of_eigen<half>(); }

TEST(Convert, RoundsDoublesToOwnNumbersAsToEigens) {
  for (const double x :
       {1.0, 1.0 + 0x1p-8, 1.0 + 0x1p-8 + 0x1p-45, 1.0 + 0x1p-11 + 0x1p-50, -65519.9, 65520.0,
        0x1p-25, 0x1.8p-25, 0x1p-24 + 0x1p-60, 1e300, -1e-300}) {
    EXPECT_EQ(bits_of(convert<detail::Half>(x)), bits_of(convert<half>(x))) << x;
    EXPECT_EQ(bits_of(convert<detail::Bfloat16>(x)), bits_of(convert<bfloat16>(x))) << x;
  }
}

}  // namespace
}  // namespace gqa::test
