// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/core/scalar.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "gqa/core/eigen.hpp"

namespace gqa::test {
namespace {

TEST(Scalar, AccumulatorsAreFloatUnlessSomethingIsDouble) {
  static_assert(std::same_as<AccumulatorOf<float>, float>);
  static_assert(std::same_as<AccumulatorOf<bfloat16>, float>);
  static_assert(std::same_as<AccumulatorOf<const half>, float>);
  static_assert(std::same_as<AccumulatorOf<const double>, double>);
  static_assert(std::same_as<AccumulatorOf<float, double>, double>);
  static_assert(Scalar<bfloat16> && !Scalar<int> && !Scalar<long double>);
  SUCCEED();
}

template <Scalar T>
void expect_round_to_nearest_even(double one_ulp) {
  const auto rounded = [](double x) { return convert<double>(convert<T>(x)); };
  EXPECT_EQ(rounded(1 + one_ulp), 1 + one_ulp);
  EXPECT_EQ(rounded(1 + one_ulp / 2), 1);                  // a tie, to even
  EXPECT_EQ(rounded(1 + 1.5 * one_ulp), 1 + 2 * one_ulp);  // a tie, to even
  EXPECT_EQ(rounded(1 + 0.51 * one_ulp), 1 + one_ulp);
  EXPECT_EQ(rounded(-1 - 0.49 * one_ulp), -1);
  // Next to a tie: rounded to float on the way, it would be one.
  EXPECT_EQ(rounded(1 + one_ulp / 2 + 0x1p-45), 1 + one_ulp);
  EXPECT_EQ(rounded(-1 - 1.5 * one_ulp + 0x1p-45), -1 - one_ulp);
  EXPECT_EQ(rounded(0.0), 0);
  EXPECT_TRUE(std::signbit(rounded(-0.0)));
  constexpr double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(rounded(infinity), infinity);
  EXPECT_EQ(rounded(-infinity), -infinity);
  EXPECT_TRUE(std::isnan(rounded(std::numeric_limits<double>::quiet_NaN())));
  EXPECT_EQ(rounded(1e300), infinity);
}

TEST(Convert, RoundsToNearestEven) {
  expect_round_to_nearest_even<float>(0x1p-23);
  expect_round_to_nearest_even<bfloat16>(0x1p-7);
  expect_round_to_nearest_even<half>(0x1p-10);
}

TEST(Convert, WidensExactly) {
  for (const float x : {1.0f, -0.099609375f, 3.0e4f, 0x1p-14f, 0x1p-24f}) {
    EXPECT_EQ(convert<double>(convert<half>(x)), static_cast<double>(x));
    EXPECT_EQ(convert<float>(convert<half>(x)), x);
  }
  for (const float x : {1.0f, -0.1005859375f, 0x1p100f, 0x1p-126f}) {
    EXPECT_EQ(convert<double>(convert<bfloat16>(x)), static_cast<double>(x));
  }
  EXPECT_EQ(convert<float>(convert<bfloat16>(convert<half>(1.5f))), 1.5f);
  EXPECT_EQ(convert<double>(0.1f), static_cast<double>(0.1f));
}

TEST(Scalar, HasShortNames) {
  EXPECT_EQ(std::string(scalar_name<float>()) + scalar_name<double>() + scalar_name<bfloat16>() +
                scalar_name<half>(),
            "f32f64bf16f16");
}

}  // namespace
}  // namespace gqa::test
