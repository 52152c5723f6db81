// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Frequencies of scaled rotary embeddings, against what transformers 4.57.1 computes
// (modeling_rope_utils.ROPE_INIT_FUNCTIONS, float32) for configurations of known models.
#include <gtest/gtest.h>

#include <gqa/core/eigen.hpp>
#include <gqa/ops/rope.hpp>

namespace gqa {
namespace {

struct Expected {
  Index pair;
  double frequency;
};

void expect_frequencies(const RopeTable<>& table, double attention_factor,
                        std::initializer_list<Expected> expected, Index length = 0) {
  EXPECT_NEAR(table.attention_factor(), attention_factor, 1e-12);
  for (const auto& [pair, frequency] : expected) {
    // transformers' float32 pow and log leave 1e-6
    EXPECT_NEAR(table.frequency(pair, length) / frequency, 1, 1e-6) << "pair " << pair;
  }
}

TEST(RopeScaling, PartialRotationSpreadsFrequenciesOverTheRotatedChannels) {  // Phi-2
  expect_frequencies(RopeTable<>({.rotary_dim = 32}, 80), 1,
                     {{0, 1}, {2, 0.316227764}, {5, 0.0562341288}, {15, 0.00017782794}});
}

TEST(RopeScaling, LinearDividesPositions) {
  expect_frequencies(
      RopeTable<>({.scaling = LinearRopeScaling{.factor = 2.5}}, 64), 1,
      {{0, 0.400000006}, {9, 0.0299957655}, {17, 0.00299957697}, {31, 5.33408602e-05}});
}

TEST(RopeScaling, DynamicNtkGrowsThetaBehindTheTrainedLength) {
  const RopeTable<> table(
      {.scaling = DynamicNtkRopeScaling{.factor = 2, .max_position_embeddings = 2048}}, 64, 16);
  expect_frequencies(table, 1,
                     {{0, 1},
                      {4, 0.29051125},
                      {10, 0.0454891101},
                      {17, 0.00522928871},
                      {24, 0.000601143052},
                      {31, 6.91055684e-05}},
                     3000);
  const RopeTable<> plain({}, 64);
  for (Index i = 0; i < 32; ++i) EXPECT_EQ(table.frequency(i, 2048), plain.frequency(i));
}

TEST(RopeScaling, DynamicNtkTakesEachSequencesOwnLength) {
  const RopeTable<> table(
      {.scaling = DynamicNtkRopeScaling{.factor = 2, .max_position_embeddings = 10}}, 8);
  Eigen::Tensor<float, 4, Eigen::RowMajor> both(2, 1, 1, 8), alone(1, 1, 1, 8);
  both.setConstant(1);
  alone.setConstant(1);
  const std::vector<Index> positions{5, 40};
  apply_rope(table, both, RopePositions::each(positions, 1));
  apply_rope(table, alone, RopePositions(5));
  for (Index c = 0; c < 8; ++c) EXPECT_EQ(both(0, 0, 0, c), alone(0, 0, 0, c));
  const double angle = 40 * table.frequency(3, 41);
  EXPECT_NEAR(both(1, 0, 0, 3), std::cos(angle) - std::sin(angle), 1e-6);
}

TEST(RopeScaling, YarnOfQwen) {
  const YarnRopeScaling yarn{.factor = 4, .original_max_position_embeddings = 32768};
  expect_frequencies(RopeTable<>({.theta = 1e6, .scaling = yarn}, 128), 1.138629436111989,
                     {{0, 1},
                      {17, 0.0254829675},
                      {21, 0.0107460786},
                      {32, 0.000602941145},
                      {33, 0.000450323569},
                      {48, 7.90569356e-06},
                      {63, 3.10234441e-07}});
}

TEST(RopeScaling, YarnOfDeepSeekWithTwoMscales) {
  const YarnRopeScaling yarn{.factor = 40,
                             .original_max_position_embeddings = 4096,
                             .mscale = 1.0,
                             .mscale_all_dim = 0.707};
  expect_frequencies(RopeTable<>({.scaling = yarn}, 64), 1.0857263992561355,
                     {{10, 0.0562341288},
                      {16, 0.00550000044},
                      {17, 0.00356199732},
                      {24, 2.49999994e-05},
                      {31, 3.33380353e-06}});
}

TEST(RopeScaling, YarnOfGptOssWithoutRoundedRamp) {
  const YarnRopeScaling yarn{
      .factor = 32, .original_max_position_embeddings = 4096, .truncate = false};
  expect_frequencies(RopeTable<>({.theta = 150000, .scaling = yarn}, 64), 1.3465735902799727,
                     {{8, 0.0508132726},
                      {9, 0.0317056961},
                      {10, 0.0193349998},
                      {16, 0.000456483918},
                      {17, 0.000129318694},
                      {31, 3.0235114e-07}});
}

TEST(RopeScaling, YarnWithGivenFactorAndBetas) {
  const YarnRopeScaling yarn{.factor = 8,
                             .original_max_position_embeddings = 2048,
                             .beta_fast = 16,
                             .beta_slow = 2,
                             .attention_factor = 0.75};
  const RopeTable<> table({.scaling = yarn}, 64);
  expect_frequencies(table, 0.75,
                     {{10, 0.0562341288},
                      {16, 0.00343749998},
                      {17, 0.00175756461},
                      {24, 0.000125000006},
                      {31, 1.66690188e-05}});
  // cos and sin carry the factor, so position 0 is a multiplication by it
  Eigen::Tensor<float, 3, Eigen::RowMajor> x(1, 1, 64);
  x.setConstant(2);
  apply_rope(table, x, RopePositions(0));
  for (Index c = 0; c < 64; ++c) EXPECT_EQ(x(0, 0, c), 1.5f);
}

TEST(RopeScaling, Llama3) {
  const Llama3RopeScaling llama3{.factor = 8,
                                 .low_freq_factor = 1,
                                 .high_freq_factor = 4,
                                 .original_max_position_embeddings = 8192};
  expect_frequencies(RopeTable<>({.theta = 500000, .scaling = llama3}, 128), 1,
                     {{8, 0.193922758},
                      {17, 0.0306345206},
                      {32, 0.000524846022},
                      {33, 0.00031269365},
                      {48, 6.64786967e-06},
                      {63, 3.06892588e-07}});
}

}  // namespace
}  // namespace gqa
