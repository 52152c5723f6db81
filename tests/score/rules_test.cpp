// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What & makes of several parts.
#include "gqa/score/rules.hpp"

#include <gtest/gtest.h>

#include "support/errors.hpp"
#include "support/random.hpp"

namespace gqa::test {
namespace {

/// Both rules answer every question alike.
void expect_same_rules(const auto& a, const auto& b) {
  Random random(1);
  EXPECT_EQ(a.scale(64), b.scale(64));
  for (int round = 0; round < 2000; ++round) {
    const Where w{.batch = random.integer(0, 1),
                  .head = random.integer(0, 3),
                  .q_index = random.integer(0, 9),
                  .k_index = random.integer(0, 99),
                  .q_pos = random.integer(-5, 110),
                  .k_pos = random.integer(0, 99)};
    ASSERT_EQ(a.visible(w), b.visible(w));
    const double x = random.normal() * 10;
    ASSERT_EQ(a.score(x, w), b.score(x, w));
    ASSERT_EQ(a.sink(w.head), b.sink(w.head));
    const Tile tile{.batch = w.batch,
                    .head = w.head,
                    .q_begin = 0,
                    .q_end = 5,
                    .q_pos_min = w.q_pos,
                    .q_pos_max = w.q_pos + 4,
                    .k_begin = w.k_index,
                    .k_end = w.k_index + 20,
                    .k_pos = w.k_pos};
    ASSERT_EQ(static_cast<int>(a.tile(tile)), static_cast<int>(b.tile(tile)));
  }
}

const std::vector<float> sinks{0.1f, 0.2f, 0.3f, 0.4f};

TEST(Rules, MeanTheSameInAnyOrder) {
  const auto window = SlidingWindow{.left = 10, .right = 2};
  const auto alibi = Alibi::standard(4);
  const SinkLogits sink{sinks};
  const auto first = Causal{} & window & KeepFirst{4} & SoftCap{5.0f} & alibi & sink & Scale{0.3};
  expect_same_rules(first,
                    Scale{0.3} & sink & alibi & SoftCap{5.0f} & KeepFirst{4} & window & Causal{});
  expect_same_rules(first,
                    alibi & KeepFirst{4} & Causal{} & Scale{0.3} & SoftCap{5.0f} & window & sink);
  expect_same_rules(
      first, (KeepFirst{4} & SoftCap{5.0f}) & ((window & Causal{}) & (sink & alibi & Scale{0.3})));
}

TEST(Rules, CapBeforeBiasesWhateverTheOrder) {
  const Alibi alibi{{1.0f}};
  const Where where{.q_pos = 0, .k_pos = 3};
  const double expected = 2 * std::tanh(10.0 / 2) + 3;
  EXPECT_DOUBLE_EQ((SoftCap{2.0f} & alibi).score(10.0, where), expected);
  EXPECT_DOUBLE_EQ((alibi & SoftCap{2.0f}).score(10.0, where), expected);
  EXPECT_DOUBLE_EQ((alibi & SoftCap{2.0f}).score_stage<ScoreStage::capped>(10.0, where),
                   expected - 3);
  EXPECT_DOUBLE_EQ((alibi & SoftCap{2.0f}).score_stage<ScoreStage::biased>(10.0, where), 13);
}

TEST(Rules, BiasesActInTheOrderGiven) {
  const auto twice = score_function([](auto x, const Where&) { return x * 2; });
  const auto add = score_function([](auto x, const Where&) { return x + 1; });
  EXPECT_EQ((twice & add).score(3.0, {}), 7);
  EXPECT_EQ((add & twice).score(3.0, {}), 8);
}

TEST(Rules, ScaleByTheHeadDimUnlessTold) {
  EXPECT_DOUBLE_EQ(as_rules(Causal{}).scale(64), 0.125);
  EXPECT_DOUBLE_EQ(as_rules(Causal{}).scale(100), 0.1);
  EXPECT_EQ((Causal{} & Scale{3.5}).scale(64), 3.5);
}

TEST(Rules, HaveNoSinkUnlessTold) {
  EXPECT_EQ(as_rules(NoMask{}).sink(2), -std::numeric_limits<float>::infinity());
  EXPECT_EQ((NoMask{} & SinkLogits{sinks}).sink(2), 0.3f);
}

TEST(Rules, KnowWhatTheirPartsNeed) {
  using Masks = decltype(Causal{} & SlidingWindow{} & KeepFirst{} & Scale{});
  static_assert(!Masks::has_scores && !Masks::has_sinks && !Masks::per_head);
  static_assert(decltype(Causal{} & SoftCap{})::has_scores);
  static_assert(decltype(Causal{} & SinkLogits{})::has_sinks &&
                !decltype(Causal{} & SinkLogits{})::has_scores);
  static_assert(decltype(Causal{} & DenseMask{})::per_head);
  static_assert(decltype(NoMask{} & AdditiveBias<float>{})::per_head &&
                decltype(NoMask{} & AdditiveBias<float>{})::has_scores);
  SUCCEED();
}

TEST(Rules, CheckEveryPart) {
  const auto rules = Causal{} & SinkLogits{sinks} & Alibi::standard(6);
  EXPECT_EQ(error_of([&] { rules.check({.num_heads = 6}); }),
            "SinkLogits has 4 logits for num_heads 6");
  EXPECT_EQ(error_of([&] { rules.check({.num_heads = 4}); }), "Alibi has 6 slopes for num_heads 4");
}

}  // namespace
}  // namespace gqa::test
