// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What & makes of several parts.
#include "gqa/score/rules.hpp"

#include <gtest/gtest.h>

#include "gqa/core/eigen.hpp"
#include "support/errors.hpp"
#include "support/random.hpp"

namespace theirs {

/// Parts of a user's own, which & isn't found for: neither is gqa's.
struct EvenKeys {
  bool visible(const gqa::Where& w) const { return w.k_index % 2 == 0; }
  gqa::Coverage tile(const gqa::Tile&) const { return gqa::Coverage::partial; }
};
struct Doubled {
  template <typename T>
  T score(T x, const gqa::Where&) const {
    return 2 * x;
  }
};
struct OwnSink {
  float sink(gqa::Index head) const { return static_cast<float>(head); }
};
inline auto both() { return gqa::rules(EvenKeys{}, Doubled{}); }

}  // namespace theirs

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

/// Counts how often it is asked.
struct CountingMask {
  static constexpr bool per_head = true;

  bool differs;
  int* asked;

  bool differs_by_head() const { return differs; }
  bool visible(const Where&) const { return true; }
  Coverage tile(const Tile&) const {
    ++*asked;
    return Coverage::full;
  }
};

TEST(Rules, AskAMaskForEachHeadOnlyWhereHeadsDiffer) {
  int asked = 0;
  EXPECT_EQ((Causal{} & CountingMask{true, &asked}).tile(Tile{.k_end = 1}, 8, 4), Coverage::full);
  EXPECT_EQ(asked, 4);
  asked = 0;
  EXPECT_EQ((Causal{} & CountingMask{false, &asked}).tile(Tile{.k_end = 1}, 8, 4), Coverage::full);
  EXPECT_EQ(asked, 1);
}

TEST(Rules, KnowWhichDenseMasksAndBiasesAreBroadcastOverHeads) {
  const bool* mask = nullptr;
  const float* bias = nullptr;
  const DenseView<bool> masks(mask, {.batch = 2, .num_heads = 3, .q_len = 4, .kv_len = 5});
  const DenseView<bool> one_mask(mask, {.batch = 2, .q_len = 4, .kv_len = 5});
  const DenseView<float> biases(bias, {.num_heads = 3, .q_len = 4, .kv_len = 5});
  const DenseView<float> one_bias(bias, {.q_len = 4, .kv_len = 5});
  EXPECT_TRUE(as_rules(DenseMask{masks}).differs_by_head());
  EXPECT_FALSE(as_rules(DenseMask{one_mask}).differs_by_head());
  EXPECT_TRUE((DenseMask{one_mask} & AdditiveBias{biases}).differs_by_head());
  EXPECT_FALSE((DenseMask{one_mask} & AdditiveBias{one_bias} & Causal{}).differs_by_head());
  // A function may look at anything; a score rule that hides nothing isn't asked.
  EXPECT_TRUE(as_rules(mask_function([](const Where&) { return true; })).differs_by_head());
  EXPECT_FALSE((Causal{} & Alibi::standard(4)).differs_by_head());
}

TEST(Rules, SeeOfABroadcastMaskWhatEachHeadSees) {
  Eigen::Tensor<bool, 4, Eigen::RowMajor> row(1, 1, 1, 8);  // of all heads and queries
  row.setValues({{{{true, true, true, true, false, false, true, false}}}});
  const auto rules = as_rules(DenseMask{row});
  const auto seen = [&](Index begin, Index end) {
    return rules.tile({.q_begin = 3, .q_end = 9, .k_begin = begin, .k_end = end}, 0, 4);
  };
  EXPECT_EQ(seen(0, 4), Coverage::full);
  EXPECT_EQ(seen(4, 6), Coverage::skip);
  EXPECT_EQ(seen(3, 6), Coverage::partial);
  EXPECT_EQ(seen(6, 8), Coverage::partial);
  EXPECT_EQ(seen(6, 9), Coverage::partial);  // beyond it, keys are hidden
  EXPECT_EQ(seen(8, 12), Coverage::skip);
}

TEST(Rules, JoinPartsOfAUsersNamespace) {
  expect_same_rules(theirs::both(), theirs::EvenKeys{} & theirs::Doubled{});
  expect_same_rules(rules(Causal{}, theirs::EvenKeys{}, SoftCap{3.0f}, theirs::OwnSink{}),
                    Causal{} & theirs::EvenKeys{} & SoftCap{3.0f} & theirs::OwnSink{});
  expect_same_rules(rules(theirs::OwnSink{}, theirs::both()),
                    theirs::OwnSink{} & theirs::EvenKeys{} & theirs::Doubled{});
  expect_same_rules(rules(theirs::Doubled{}), as_rules(theirs::Doubled{}));
  expect_same_rules(rules(), as_rules(NoMask{}));
}

TEST(Rules, CheckEveryPart) {
  const auto rules = Causal{} & SinkLogits{sinks} & Alibi::standard(6);
  EXPECT_EQ(error_of([&] { rules.check({.num_heads = 6}); }),
            "SinkLogits has 4 logits for num_heads 6");
  EXPECT_EQ(error_of([&] { rules.check({.num_heads = 4}); }), "Alibi has 6 slopes for num_heads 4");
}

}  // namespace
}  // namespace gqa::test
