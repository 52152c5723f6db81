// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// How the instruction set that this file is compiled for reads and multiplies what keys and values
// are stored as: widen() and Dot of simd/ops.hpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "gqa/core/eigen.hpp"
#include "special_numbers.hpp"
#include "support/isa.hpp"
#include "support/random.hpp"

namespace gqa::test {
namespace {

/// The lanes of a pack.
template <typename T>
std::vector<T> lanes(simd::Pack<T> p) {
  std::vector<T> all(static_cast<std::size_t>(simd::Pack<T>::size));
  p.store(all.data());
  return all;
}

TEST(SimdWiden, EveryBfloat16InPairs) {
  GQA_TEST_SKIP_FOREIGN_ISA();
  constexpr Index size = simd::Pack<float>::size;
  std::vector<bfloat16> x;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    x.push_back(Eigen::bfloat16_impl::raw_uint16_to_bfloat16(static_cast<std::uint16_t>(bits)));
  }
  for (Index i = 0; i < 65536; i += 2 * size) {
    simd::Pack<float> packs[2];
    simd::widen(x.data() + i, packs);
    for (Index j = 0; j < 2 * size; ++j) {
      const float y = lanes(packs[j % 2])[static_cast<std::size_t>(j / 2)];
      // A bfloat16 is the upper half of a float, NaN and its payload included.
      EXPECT_EQ(std::bit_cast<std::uint32_t>(y), static_cast<std::uint32_t>(i + j) << 16);
    }
  }
}

TEST(SimdWiden, EveryHalf) {
  GQA_TEST_SKIP_FOREIGN_ISA();
  constexpr Index size = simd::Pack<float>::size;
  std::vector<half> x;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    x.push_back(Eigen::half_impl::raw_uint16_to_half(static_cast<std::uint16_t>(bits)));
  }
  for (Index i = 0; i < 65536; i += size) {
    simd::Pack<float> packs[1];
    simd::widen(x.data() + i, packs);
    const auto y = lanes(packs[0]);
    for (Index j = 0; j < size; ++j) {
      // By the definition of binary16: sign, 5 bits of exponent, 10 of mantissa.
      const auto bits = static_cast<int>(i + j);
      const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
      double expected =
          exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      if (exponent == 31) expected = mantissa == 0 ? infinity<double> : nan<double>;
      if (bits & 0x8000) expected = -expected;
      const auto value = static_cast<double>(y[static_cast<std::size_t>(j)]);
      EXPECT_TRUE(std::isnan(expected)
                      ? std::isnan(value)
                      : value == expected && std::signbit(value) == std::signbit(expected))
          << bits << " gives " << value << ", expected " << expected;
    }
  }
}

TEST(SimdWiden, EveryInt8InFours) {
  GQA_TEST_SKIP_FOREIGN_ISA();
  constexpr Index size = simd::Pack<float>::size;
  std::vector<Int8> x;
  for (int i = 0; i < 1024; ++i) x.push_back({static_cast<std::int8_t>(i * 37 % 256 - 128)});
  for (Index i = 0; i < 1024; i += 4 * size) {
    simd::Pack<float> packs[4];
    simd::widen(x.data() + i, packs);
    for (Index j = 0; j < 4 * size; ++j) {
      EXPECT_EQ(lanes(packs[j % 4])[static_cast<std::size_t>(j / 4)],
                static_cast<float>(x[static_cast<std::size_t>(i + j)].value));
    }
  }
}

/// Element e of lane i of a strip, as the layout has it.
template <typename Storage>
int integer_at(const Storage* strip, Index i, Index e) {
  constexpr Index n = lane_objects<Storage>;
  return integer_of(strip[n * i + e % n], e / n);
}

TEST(SimdWiden, EveryInt4InEights) {
  GQA_TEST_SKIP_FOREIGN_ISA();
  constexpr Index size = simd::Pack<float>::size;
  std::vector<Int4> x;
  for (int i = 0; i < 256; ++i) x.push_back({static_cast<std::uint8_t>(i * 37 % 256)});
  EXPECT_EQ(integer_of(Int4{0x7f}, 0), -1);
  EXPECT_EQ(integer_of(Int4{0x7f}, 1), 7);
  EXPECT_EQ(integer_of(Int4{0x80}, 1), -8);
  for (Index i = 0; i < 256; i += 4 * size) {
    simd::Pack<float> packs[8];
    simd::widen(x.data() + i, packs);
    for (Index e = 0; e < 8; ++e) {
      for (Index lane = 0; lane < size; ++lane) {
        EXPECT_EQ(lanes(packs[e])[static_cast<std::size_t>(lane)],
                  static_cast<float>(integer_at(x.data() + i, lane, e)));
      }
    }
  }
}

template <typename Storage, Product product>
void check_integer_products(int low, int high) {
  using Dot = simd::Dot<Storage, product>;
  using Factor = simd::Factor<Storage, product>;
  constexpr Index size = simd::Pack<float>::size, p = packing<Storage>;
  Random random(8);
  for (int round = 0; round < 200; ++round) {
    Storage elements[lane_objects<Storage> * size];
    std::vector<int> integers;
    for (Storage& x : elements) {
      for (int i = 0; i < elements_per<Storage>; ++i) {
        set_integer(x, i, static_cast<int>(random.integer(-127, 127)));
      }
    }
    Factor factors[p];
    for (Factor& factor : factors) {
      integers.push_back(random.chance(0.2) ? (random.chance(0.5) ? low : high)
                                            : static_cast<int>(random.integer(low, high)));
      factor = static_cast<Factor>(integers.back());
    }
    typename Dot::Sum sum = Dot::Sum::zero();
    for (int times = 0; times < 40; ++times) sum = Dot::add(sum, factors, Dot::load(elements));
    const auto actual = lanes(Dot::result(sum));
    for (Index i = 0; i < size; ++i) {
      int expected = 0;
      for (Index e = 0; e < p; ++e) {
        int bias = 0;
        if constexpr (product == Product::scores) bias = Dot::key_bias;
        expected += integers[static_cast<std::size_t>(e)] * (integer_at(elements, i, e) + bias);
      }
      EXPECT_EQ(actual[static_cast<std::size_t>(i)], static_cast<float>(40 * expected)) << i;
    }
  }
}

TEST(SimdDotOfIntegers, IsExact) {
  GQA_TEST_SKIP_FOREIGN_ISA();
  check_integer_products<Int8, Product::scores>(-127, 127);
  check_integer_products<Int8, Product::outputs>(0, 255);
  check_integer_products<Int4, Product::scores>(-127, 127);
  check_integer_products<Int4, Product::outputs>(0, 255);
}

TEST(SimdDotOfInt8, WeightsAreRoundedToTheNearestInteger) {
  GQA_TEST_SKIP_FOREIGN_ISA();
  using Dot = simd::Dot<Int8, Product::outputs>;
  constexpr Index size = simd::Pack<float>::size;
  for (float begin = 0; begin < 255; begin += 3.7f) {
    float x[size];
    simd::Factor<Int8, Product::outputs> factors[size];
    for (Index i = 0; i < size; ++i) x[i] = std::min(255.0f, begin + 0.25f * static_cast<float>(i));
    const auto now = lanes(Dot::store(simd::Pack<float>::load(x), factors));
    for (Index i = 0; i < size; ++i) {
      EXPECT_EQ(now[static_cast<std::size_t>(i)], std::nearbyint(x[i])) << x[i];
      EXPECT_EQ(static_cast<float>(factors[i]), std::nearbyint(x[i])) << x[i];
    }
  }
}

template <typename S>
struct DotTypes {
  using Storage = S;
  using Dot = simd::Dot<Storage, Product::outputs>;  // for numbers, both products are one
  using Factor = simd::Factor<Storage, Product::outputs>;
  using T = AccumulatorOf<Storage>;
  static constexpr Index size = simd::Pack<T>::size;
  static constexpr Index p = packing<Storage>;
};

template <typename Storage>
class SimdDot : public testing::Test {
 protected:
  void SetUp() override { GQA_TEST_SKIP_FOREIGN_ISA(); }
};
using Storages = testing::Types<float, double, bfloat16, half>;
TYPED_TEST_SUITE(SimdDot, Storages);

TYPED_TEST(SimdDot, AddsTheProductsOfEachLane) {
  using F = DotTypes<TypeParam>;
  using T = typename F::T;
  using Factor = typename F::Factor;
  Random random(6);
  for (int round = 0; round < 200; ++round) {
    TypeParam elements[F::size * F::p];
    Factor factors[F::p];
    T start[F::size], sum[F::size];
    for (auto& x : elements) x = convert<TypeParam>(random.normal());
    for (auto& x : factors) x = convert<Factor>(random.normal());
    for (auto& x : start) x = convert<T>(random.normal());
    F::Dot::add(simd::Pack<T>::load(start), factors, F::Dot::load(elements)).store(sum);
    for (Index i = 0; i < F::size; ++i) {
      long double exact = start[i], magnitude = std::abs(start[i]);
      for (Index e = 0; e < F::p; ++e) {
        const long double product =
            static_cast<long double>(convert<double>(factors[e])) *
            static_cast<long double>(convert<double>(elements[i * F::p + e]));
        exact += product;
        magnitude += std::abs(product);
      }
      EXPECT_LE(std::abs(static_cast<long double>(sum[i]) - exact),
                F::p * magnitude * std::numeric_limits<T>::epsilon())
          << "lane " << i << " is " << sum[i] << ", expected " << exact;
    }
  }
}

TYPED_TEST(SimdDot, RoundsFactorsToNearestAndReturnsThem) {
  using F = DotTypes<TypeParam>;
  using T = typename F::T;
  using Factor = typename F::Factor;
  Random random(7);
  const std::vector<T> odd_ones{
      T(0),        T(1) + T(0x1p-8), T(1) + T(0x3p-8),  // ties
      infinity<T>, -infinity<T>,     nan<T>,           T(-1e-30), std::numeric_limits<T>::max()};
  for (int round = 0; round < 200; ++round) {
    T x[F::size], is_now[F::size];
    Factor factors[F::size];
    for (T& lane : x) {
      lane = random.chance(0.3) ? random.pick(odd_ones) : convert<T>(random.normal());
    }
    F::Dot::store(simd::Pack<T>::load(x), factors).store(is_now);
    for (Index i = 0; i < F::size; ++i) {
      const T expected = convert<T>(convert<Factor>(x[i])), kept = convert<T>(factors[i]);
      if (std::isnan(x[i])) {
        EXPECT_TRUE(std::isnan(kept) && std::isnan(is_now[i])) << kept << " and " << is_now[i];
      } else {
        EXPECT_EQ(kept, expected) << x[i];
        EXPECT_EQ(is_now[i], expected) << x[i];
      }
    }
  }
}

}  // namespace
}  // namespace gqa::test
