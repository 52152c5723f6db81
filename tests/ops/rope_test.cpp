// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Rotary embedding against the definition: a pair of channels is a complex number, multiplied by
// e^(i p w).
#include <gtest/gtest.h>

#include <complex>
#include <gqa/core/eigen.hpp>
#include <gqa/ops/rope.hpp>
#include <random>

namespace gqa {
namespace {

/// The distance of 1 and the next number. (Eigen 3.4 says 2^-13 of half, which has 10 bits.)
template <typename T>
constexpr double epsilon_of() {
  if constexpr (std::same_as<T, half>) return 1.0 / 1024;
  if constexpr (std::same_as<T, bfloat16>) return 1.0 / 128;
  return static_cast<double>(std::numeric_limits<T>::epsilon());
}

template <typename T>
using Tensor4 = Eigen::Tensor<T, 4, Eigen::RowMajor>;

template <typename T>
Tensor4<T> random_tensor(Index batch, Index tokens, Index heads, Index dim, unsigned seed = 1) {
  Tensor4<T> tensor(batch, tokens, heads, dim);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (Index i = 0; i < tensor.size(); ++i) tensor.data()[i] = static_cast<T>(normal(random));
  return tensor;
}

/// The definition, in double, of one row.
template <typename T>
std::vector<double> rotated(const T* row, Index head_dim, const RopeConfig& config,
                            Index position) {
  const Index rotary_dim = config.rotary_dim == 0 ? head_dim : config.rotary_dim;
  std::vector<double> result(row, row + head_dim);
  for (Index i = 0; i < rotary_dim / 2; ++i) {
    const bool interleaved = config.style == RopeStyle::interleaved;
    const auto first = static_cast<std::size_t>(interleaved ? 2 * i : i);
    const auto second = static_cast<std::size_t>(interleaved ? 2 * i + 1 : i + rotary_dim / 2);
    const double w = 1.0 / std::pow(config.theta, 2.0 * double(i) / double(rotary_dim));
    const std::complex<double> turned = std::complex<double>(result[first], result[second]) *
                                        std::polar(1.0, static_cast<double>(position) * w);
    result[first] = turned.real();
    result[second] = turned.imag();
  }
  return result;
}

/// Rounding of T, and what the frequency's rounding to double makes of a distant position.
template <typename T>
double tolerance_at(Index position, double expected) {
  return 4 * epsilon_of<T>() * std::max(std::abs(expected), 4.0) +
         8 * static_cast<double>(position) * Eigen::NumTraits<double>::epsilon();
}

template <typename T>
class RopeOf : public ::testing::Test {};
using Scalars = ::testing::Types<float, double, bfloat16, half>;
TYPED_TEST_SUITE(RopeOf, Scalars);

TYPED_TEST(RopeOf, RotatesPairsAsComplexNumbersInBothStyles) {
  using T = TypeParam;
  const std::vector<Index> first{5, 100'003};
  for (const RopeStyle style : {RopeStyle::interleaved, RopeStyle::rotate_half}) {
    for (const Index head_dim : {2, 6, 64, 80, 256}) {
      for (const Index rotary_dim : {Index{0}, Index{2}, head_dim / 2 / 2 * 2}) {
        const RopeConfig config{.rotary_dim = rotary_dim, .style = style};
        const RopeTable<AccumulatorOf<T>> table(config, head_dim, 6);
        const auto x = random_tensor<T>(2, 3, 2, head_dim);
        auto y = x;
        apply_rope(table, y, RopePositions::starting_at(first));
        for (Index b = 0; b < 2; ++b) {
          for (Index t = 0; t < 3; ++t) {
            for (Index h = 0; h < 2; ++h) {
              const Index position = first[static_cast<std::size_t>(b)] + t;
              const auto expected = rotated(&x(b, t, h, 0), head_dim, config, position);
              for (Index c = 0; c < head_dim; ++c) {
                const double e = expected[static_cast<std::size_t>(c)];
                ASSERT_NEAR(static_cast<double>(y(b, t, h, c)), e, tolerance_at<T>(position, e))
                    << "head_dim " << head_dim << " rotary_dim " << rotary_dim << " channel " << c;
              }
            }
          }
        }
      }
    }
  }
}

TYPED_TEST(RopeOf, LeavesChannelsBehindRotaryDimBitForBit) {
  using T = TypeParam;
  for (const RopeStyle style : {RopeStyle::interleaved, RopeStyle::rotate_half}) {
    const RopeTable<AccumulatorOf<T>> table({.rotary_dim = 6, .style = style}, 17);
    const auto x = random_tensor<T>(1, 2, 3, 17);
    auto y = x;
    apply_rope(table, y, RopePositions(1));
    for (Index t = 0; t < 2; ++t) {
      for (Index h = 0; h < 3; ++h) {
        for (Index c = 6; c < 17; ++c) {
          EXPECT_EQ(static_cast<double>(y(0, t, h, c)), static_cast<double>(x(0, t, h, c)));
        }
        EXPECT_NE(static_cast<double>(y(0, t, h, 0)), static_cast<double>(x(0, t, h, 0)));
      }
    }
  }
}

TEST(Rope, StylesDifferByTheOrderOfChannelsOnly) {
  const Index head_dim = 12, rotary_dim = 8;
  const auto x = random_tensor<float>(1, 4, 2, head_dim);
  Tensor4<float> pairs = x;  // channel i of a half becomes channel 2 i
  const auto interleaved_channel = [&](Index c) {
    if (c >= rotary_dim) return c;
    return c < rotary_dim / 2 ? 2 * c : 2 * (c - rotary_dim / 2) + 1;
  };
  for (Index t = 0; t < 4; ++t) {
    for (Index h = 0; h < 2; ++h) {
      for (Index c = 0; c < head_dim; ++c) pairs(0, t, h, interleaved_channel(c)) = x(0, t, h, c);
    }
  }
  auto halves = x;
  RopeConfig config{.rotary_dim = rotary_dim, .style = RopeStyle::rotate_half};
  apply_rope(RopeTable<>(config, head_dim), halves, RopePositions(9));
  config.style = RopeStyle::interleaved;
  apply_rope(RopeTable<>(config, head_dim), pairs, RopePositions(9));
  for (Index t = 0; t < 4; ++t) {
    for (Index h = 0; h < 2; ++h) {
      for (Index c = 0; c < head_dim; ++c) {
        EXPECT_NEAR(halves(0, t, h, c), pairs(0, t, h, interleaved_channel(c)), 1e-6);
      }
    }
  }
}

TEST(Rope, PositionsMayDifferPerSequenceAndToken) {
  const RopeConfig config{.style = RopeStyle::interleaved};
  const RopeTable<> table(config, 8);
  const auto x = random_tensor<float>(2, 3, 1, 8);
  const std::vector<Index> positions{4, 0, 77, 1, 1, 9};
  auto y = x;
  apply_rope(table, y, RopePositions::each(positions, 3));
  for (Index b = 0; b < 2; ++b) {
    for (Index t = 0; t < 3; ++t) {
      const auto expected =
          rotated(&x(b, t, 0, 0), 8, config, positions[static_cast<std::size_t>(3 * b + t)]);
      for (Index c = 0; c < 8; ++c) {
        EXPECT_NEAR(y(b, t, 0, c), expected[static_cast<std::size_t>(c)], 1e-6);
      }
    }
  }
}

TEST(Rope, TableRowsHaveTheBitsOfAnglesComputedWhenMet) {
  const auto x = random_tensor<float>(1, 9, 2, 160);
  auto with_table = x, partly = x, without = x;
  apply_rope(RopeTable<>({}, 160, 64), with_table, RopePositions(3));
  apply_rope(RopeTable<>({}, 160, 7), partly, RopePositions(3));
  apply_rope(RopeTable<>({}, 160), without, RopePositions(3));
  for (Index i = 0; i < x.size(); ++i) {
    EXPECT_EQ(with_table.data()[i], without.data()[i]);
    EXPECT_EQ(partly.data()[i], without.data()[i]);
  }
}

TEST(Rope, StridedViewsAreRotatedInPlaceAndNothingElseIs) {
  // Queries and keys as slices of one fused buffer, [tokens, 3 + 1 + 1 heads, dim].
  const auto x = random_tensor<float>(1, 5, 5, 8);
  auto fused = x;
  const RopeTable<> table({}, 8);
  apply_rope(table, view(fused).heads_slice(3, 1), RopePositions(1));
  auto all = x;
  apply_rope(table, all, RopePositions(1));
  for (Index t = 0; t < 5; ++t) {
    for (Index h = 0; h < 5; ++h) {
      for (Index c = 0; c < 8; ++c) {
        EXPECT_EQ(fused(0, t, h, c), h == 3 ? all(0, t, h, c) : x(0, t, h, c));
      }
    }
  }
}

TEST(Rope, OutOfPlaceEqualsInPlace) {
  const auto x = random_tensor<float>(2, 3, 2, 10);
  const RopeTable<> table({.rotary_dim = 4}, 10);
  Tensor4<float> out(2, 3, 2, 10);
  apply_rope(table, x, out, RopePositions(2));
  auto in_place = x;
  apply_rope(table, in_place, RopePositions(2));
  for (Index i = 0; i < x.size(); ++i) EXPECT_EQ(out.data()[i], in_place.data()[i]);
}

TEST(Rope, NegativePositionsRotateBack) {
  const auto x = random_tensor<double>(1, 6, 1, 32);
  auto y = x;
  const RopeTable<double> table({}, 32, 4);
  const std::vector<Index> back{0, -1, -2, -3, -4, -5};
  apply_rope(table, y, RopePositions(0));
  apply_rope(table, y, RopePositions::each(back, 6));
  for (Index i = 0; i < x.size(); ++i) EXPECT_NEAR(y.data()[i], x.data()[i], 1e-14);
}

TEST(Rope, BackwardIsTheTransposedRotation) {
  // R linear: (R x)·y = x·(Rᵀ y), whatever scales cos and sin.
  std::vector<RopeConfig> configs(3);
  configs[0].rotary_dim = 6;
  configs[1].scaling = YarnRopeScaling{.factor = 8, .original_max_position_embeddings = 16};
  configs[1].style = RopeStyle::rotate_half;
  configs[2].scaling = DynamicNtkRopeScaling{.factor = 2, .max_position_embeddings = 4};
  for (const RopeConfig& config : configs) {
    const RopeTable<double> table(config, 10, config.rotary_dim > 0 ? 8 : 0);
    const auto x = random_tensor<double>(2, 9, 3, 10, 1), y = random_tensor<double>(2, 9, 3, 10, 2);
    auto turned = x, back = y;
    const std::vector<Index> first{0, 5};
    apply_rope(table, turned, RopePositions::starting_at(first));
    rope_backward(table, back, RopePositions::starting_at(first));
    double forth_sum = 0, back_sum = 0, difference = 0;
    for (Index i = 0; i < x.size(); ++i) {
      forth_sum += turned.data()[i] * y.data()[i];
      back_sum += x.data()[i] * back.data()[i];
      difference += std::abs(back.data()[i] - y.data()[i]);
    }
    EXPECT_NEAR(forth_sum, back_sum, 1e-11);
    EXPECT_GT(difference, 1);
  }
}

TEST(Rope, GivenTablesAreUsedAsTheyAre) {
  const std::vector<float> cos{1, 1, 0, 0.5f}, sin{0, 0, 1, 2};  // 2 positions of 2 pairs
  const auto table =
      RopeTable<>::from_tables(cos.data(), sin.data(), 2, 4, 5, RopeStyle::rotate_half);
  Tensor4<float> x(1, 2, 1, 5);
  x.setValues({{{{1, 2, 3, 4, 5}}, {{1, 2, 3, 4, 5}}}});
  apply_rope(table, x, RopePositions(0));
  const float expected[] = {1, 2, 3, 4, 5, -3, 1 - 8, 1, 4 + 2, 5};
  for (Index i = 0; i < 10; ++i) EXPECT_EQ(x.data()[i], expected[i]) << i;
}

template <typename F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no std::invalid_argument";
}

TEST(RopeErrors, NameTheNumbersThatDisagree) {
  const auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos ? testing::AssertionSuccess()
                                                : testing::AssertionFailure() << text;
  };
  EXPECT_TRUE(has(error_of([] { RopeTable<>({.rotary_dim = 3}, 8); }), "is 3"));
  EXPECT_TRUE(has(error_of([] { RopeTable<>({.rotary_dim = 10}, 8); }), "head_dim 8, is 10"));
  EXPECT_TRUE(has(error_of([] { RopeTable<>({}, 7); }), "head_dim 7, is 7"));
  EXPECT_TRUE(has(error_of([] { RopeTable<>({}, 0); }), "positive, is 0"));
  EXPECT_TRUE(has(error_of([] { RopeTable<>({.theta = -2}, 8); }), "is -2"));
  EXPECT_TRUE(has(error_of([] { RopeTable<>({}, 8, -1); }), "is -1"));
  EXPECT_TRUE(has(error_of([] { RopeTable<>({.scaling = LinearRopeScaling{0}}, 8); }), "is 0"));
  EXPECT_TRUE(
      has(error_of([] { RopeTable<>({.scaling = DynamicNtkRopeScaling{0.5}}, 8); }), "is 0.5"));
  EXPECT_TRUE(has(error_of([] { RopeTable<>({.scaling = YarnRopeScaling{4, 0}}, 8); }), "is 0"));
  EXPECT_TRUE(has(error_of([] {
                    RopeTable<>({.scaling = Llama3RopeScaling{8, 4, 4}}, 8);
                  }),
                  "are 4"));

  const RopeTable<> table({}, 8);
  auto x = random_tensor<float>(2, 3, 1, 6);
  EXPECT_TRUE(has(error_of([&] { apply_rope(table, x, RopePositions(0)); }),
                  "head_dim 6, the RopeTable 8"));
  x = random_tensor<float>(2, 3, 1, 8);
  const std::vector<Index> five(5), three(3);
  EXPECT_TRUE(has(error_of([&] { apply_rope(table, x, RopePositions::each(five, 3)); }),
                  "5 positions of 3 tokens each, the batch has 2 x 3"));
  EXPECT_TRUE(has(error_of([&] { apply_rope(table, x, RopePositions::starting_at(three)); }),
                  "3 sequences, the batch is 2"));
  Tensor4<float> out(2, 2, 1, 8);
  EXPECT_TRUE(has(error_of([&] { apply_rope(table, x, out, RopePositions(0)); }),
                  "x has shape [2, 3, 1, 8], out [2, 2, 1, 8]"));
}

TEST(RopeErrors, APositionOutsideOfGivenTablesChangesNothing) {
  const std::vector<float> rows(6);
  const auto table =
      RopeTable<>::from_tables(rows.data(), rows.data(), 3, 4, 4, RopeStyle::interleaved);
  const auto x = random_tensor<float>(1, 4, 1, 4);
  auto y = x;
  EXPECT_NE(error_of([&] {
              apply_rope(table, y, RopePositions(0));
            }).find("position 3 is outside of the given cos and sin tables, which have 3 rows"),
            std::string::npos);
  for (Index i = 0; i < x.size(); ++i) EXPECT_EQ(y.data()[i], x.data()[i]);
}

TEST(RopeErrors, TablesThatNoMemoryCouldHave) {
  const float row[4] = {};
  const auto refusal = [](auto make) -> std::string {
    try {
      make();
    } catch (const std::length_error& error) {
      return error.what();
    }
    return "no such error";
  };
  EXPECT_EQ(refusal([] { RopeTable<float>({}, 64, Index{1} << 59); }),
            "RopeTable: 576460752303423488 x 32 x 4 bytes are more than 63 bits count");
  // 2^64 numbers, of which none would have been copied.
  EXPECT_EQ(refusal([&] {
              RopeTable<float>::from_tables(row, row, Index{1} << 62, 8, 8, RopeStyle::interleaved);
            }),
            "RopeTable: 4611686018427387904 x 4 x 4 bytes are more than 63 bits count");
}

}  // namespace
}  // namespace gqa
