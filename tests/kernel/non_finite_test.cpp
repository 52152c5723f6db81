// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Where NaN and infinities may go. What a row doesn't see must not change a bit of its result; a
// NaN that it sees must show in it, and in no other row.
#include <gtest/gtest.h>

#include "support/attention_case.hpp"

namespace gqa::test {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// One type of rules and one of executors: attend() is compiled once for most tests.
constexpr TestExecutor one_thread{1};

/// A key or value that is not a number.
struct Poison {
  Index batch, key, kv_head;
  bool in_key;  // else in the value
  double number;
};

std::string to_string(const Poison& p) {
  return message(p.in_key ? "key [" : "value [", p.batch, ", ", p.key, ", ", p.kv_head, "] is ",
                 p.number);
}

template <Scalar Query, Scalar Storage>
bool sees(const AttentionInput<Query, Storage>& input, const auto& rules, Index b, Index h, Index i,
          const Poison& p) {
  const Index group = input.q.shape().heads / input.k.shape().heads;
  return i < input.q_len(b) && p.batch == b && p.kv_head == h / group && p.key < input.length(b) &&
         as_rules(rules).visible({.batch = b,
                                  .head = h,
                                  .q_index = i,
                                  .k_index = p.key,
                                  .q_pos = input.q_pos(b, i),
                                  .k_pos = p.key});
}

/// Runs attend() with and without the poisons. Rows that see none of them must come out with the
/// same bits; rows that see a NaN must be NaN throughout, rows that see an infinite value not
/// finite.
template <Scalar Query, Scalar Storage>
void check_poisons(AttentionInput<Query, Storage> input, const auto& rules, SourceKind kind,
                   Index threads, const std::vector<Poison>& poisons, const std::string& what) {
  using Out = AccumulatorOf<Query>;
  const auto run = [&] {
    const TestExecutor executor{threads};
    return kind == SourceKind::cache ? attend_over<Out>(input, input.cache(), rules, executor)
                                     : attend_over<Out>(input, input.rows_kv(), rules, executor);
  };
  const auto clean = run();
  for (const Poison& p : poisons) {
    // In one channel only: the others' products must not hide it, nor carry it further.
    auto& tensor = p.in_key ? input.k : input.v;
    if (p.in_key) {
      tensor.row(p.batch, p.key, p.kv_head)[tensor.shape().dim / 2] = convert<Storage>(p.number);
    } else {
      tensor.fill_row(p.batch, p.key, p.kv_head, p.number);
    }
  }
  const auto poisoned = run();

  const TensorShape& shape = clean.out.shape();
  for (Index b = 0; b < shape.batch; ++b) {
    for (Index h = 0; h < shape.heads; ++h) {
      for (Index i = 0; i < shape.tokens; ++i) {
        bool seen_key = false, seen_value = false;
        std::string trace = what;
        for (const Poison& p : poisons) {
          if (!sees(input, rules, b, h, i, p)) continue;
          (p.in_key ? seen_key : seen_value) = true;
          trace += ", " + to_string(p);
        }
        const auto r = static_cast<std::size_t>((b * shape.heads + h) * shape.tokens + i);
        const auto* y = poisoned.out.row(b, i, h);
        const auto* y_clean = clean.out.row(b, i, h);
        if (!seen_key) {
          ASSERT_EQ(0, std::memcmp(&poisoned.lse[r], &clean.lse[r], sizeof clean.lse[r]))
              << trace << ": lse [" << b << ", " << h << ", " << i << "] is " << poisoned.lse[r]
              << ", was " << clean.lse[r];
        } else {
          ASSERT_TRUE(std::isnan(poisoned.lse[r])) << trace << ": " << b << ", " << h << ", " << i;
        }
        for (Index c = 0; c < shape.dim; ++c) {
          if (seen_key) {
            ASSERT_TRUE(std::isnan(y[c])) << trace << ": out [" << b << ", " << i << ", " << h
                                          << ", " << c << "] is " << y[c];
          } else if (seen_value) {
            ASSERT_FALSE(std::isfinite(y[c])) << trace << ": out [" << b << ", " << i << ", " << h
                                              << ", " << c << "] is " << y[c];
          } else {
            ASSERT_EQ(0, std::memcmp(y + c, y_clean + c, sizeof *y))
                << trace << ": out [" << b << ", " << i << ", " << h << ", " << c << "] is " << y[c]
                << ", was " << y_clean[c];
          }
        }
      }
    }
  }
}

/// A few poisons at random places: keys are NaN, values NaN or infinite.
std::vector<Poison> random_poisons(const AttentionCase& c, Random& random) {
  std::vector<Poison> poisons;
  for (Index n = random.integer(1, 4); n > 0; --n) {
    Poison p{.batch = random.integer(0, c.batch - 1),
             .key = random.integer(0, c.kv_len - 1),
             .kv_head = random.integer(0, c.num_kv_heads - 1),
             .in_key = random.chance(0.5),
             .number = nan};
    if (!p.in_key) p.number = random.pick(std::vector{nan, infinity, -infinity});
    poisons.push_back(p);
  }
  return poisons;
}

template <Scalar Storage, bool WithScores>
void check_every_mask() {
  using Query = AccumulatorOf<Storage>;
  Random random(11);
  for (std::size_t mask = 0; mask < mask_names.size(); ++mask) {
    for (const Index kv_len : {1, 40, 130, 700}) {
      for (const Index q_len : {1, 6, 30}) {
        AttentionCase c{.group = 3,
                        .num_kv_heads = 2,
                        .q_len = q_len,
                        .kv_len = kv_len,
                        .head_dim = 17,
                        .value_dim = 20,
                        .batch = 2};
        c.mask = MaskChoice(mask);
        c.score = WithScores ? ScoreChoice(1 + random.integer(0, 8)) : ScoreChoice::none;
        c.ragged = random.chance(0.3) ? Ragged::both : Ragged::none;
        c.positions = Positions(random.integer(0, 2));
        c.source = random.chance(0.5) ? SourceKind::cache : SourceKind::rows;
        c.threads = random.integer(1, 3);
        auto input = make_input<Query, Storage>(c, random);
        // make_input() has put NaN after the sequences' ends. No row sees that; this is about
        // more.
        RuleFactory factory(c.shape(), random);
        const double scale = factory.default_scale();
        const auto poisons = random_poisons(c, random);
        if constexpr (WithScores) {
          check_poisons(input, factory.masks_and_scores(scale, c.mask, c.score), c.source,
                        c.threads, poisons, to_string(c));
        } else {
          check_poisons(input, factory.masks(scale, c.mask), c.source, c.threads, poisons,
                        to_string(c));
        }
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(NonFinite, ReachesExactlyTheRowsThatSeeIt_F32) { check_every_mask<float, false>(); }
TEST(NonFinite, ReachesExactlyTheRowsThatSeeIt_F32_WithScoreRules) {
  check_every_mask<float, true>();
}
TEST(NonFinite, ReachesExactlyTheRowsThatSeeIt_BF16) { check_every_mask<bfloat16, false>(); }
TEST(NonFinite, ReachesExactlyTheRowsThatSeeIt_F64_WithScoreRules) {
  check_every_mask<double, true>();
}

/// Every position of a NaN around the borders of strips, blocks and splits.
TEST(NonFinite, ReachesExactlyTheRowsThatSeeIt_AtEveryKey) {
  Random random(12);
  for (const Index q_len : {1, 40}) {
    AttentionCase c{.group = 2, .q_len = q_len, .kv_len = 600, .head_dim = 8, .value_dim = 8};
    const auto input = make_input<float, float>(c, random);
    for (const Index key : {0,   1,   31,  32,  63,  64,  95,  96,  127, 128, 511, 512, 543,
                            559, 560, 561, 569, 570, 575, 576, 577, 590, 591, 592, 598, 599}) {
      for (const bool in_key : {false, true}) {
        const std::vector<Poison> poison{{0, key, 0, in_key, nan}};
        for (const SourceKind kind : {SourceKind::cache, SourceKind::rows}) {
          check_poisons(input, erase_masks(Causal{}), kind, 1, poison, "Causal");
          check_poisons(input, erase_masks(Causal{} & SlidingWindow::from_hf(20)), kind, 1, poison,
                        "window of 20");
        }
      }
    }
  }
}

/// Of a split so far away, all weights are 0 beside those of the last one.
TEST(NonFinite, ReachesRowsThatGiveItNoWeight) {
  Random random(20);
  AttentionCase c{.group = 2, .q_len = 1, .kv_len = 1100, .head_dim = 16, .value_dim = 16};
  for (const Index key : {15, 600, 1080}) {
    for (const double number : {nan, infinity}) {
      const auto input = make_input<float, float>(c, random);
      const std::vector<Poison> poison{{0, key, 0, false, number}};
      check_poisons(input, Alibi({1.0f, 0.5f}), SourceKind::cache, 1, poison, "Alibi");
      check_poisons(input, Alibi({1.0f, 0.5f}), SourceKind::rows, 3, poison, "Alibi");
    }
  }
}

TEST(NonFinite, InfinitelyLowScoreIsAWeightOfZero) {
  Random random(13);
  AttentionCase c{.group = 2, .q_len = 4, .kv_len = 100, .head_dim = 16, .value_dim = 16};
  auto input = make_input<float, float>(c, random);
  input.q.for_each([](float& x) { x = std::abs(x) + 0.1f; });
  const Index key = 37;
  const auto without = attend_over(input, input.cache(),
                                   mask_function([=](const Where& w) { return w.k_index != key; }));
  input.k.row(0, key, 0)[3] = static_cast<float>(-infinity);
  const auto with = attend_over(input, input.cache(), erase_masks(NoMask{}), one_thread);
  EXPECT_TRUE(same_bits(with, without));
}

TEST(NonFinite, InfinitelyHighScoreIsNotANumber) {
  // e^(inf - inf): the formula has no answer, and says so in the rows that see it.
  Random random(14);
  AttentionCase c{.group = 2, .q_len = 4, .kv_len = 100, .head_dim = 16, .value_dim = 16};
  auto input = make_input<float, float>(c, random);
  input.q.for_each([](float& x) { x = std::abs(x) + 0.1f; });
  input.k.row(0, 98, 0)[3] = static_cast<float>(infinity);  // seen by queries 2 and 3 of 4
  const auto result = attend_over(input, input.cache(), erase_masks(Causal{}), one_thread);
  for (Index h = 0; h < 2; ++h) {
    for (Index i = 0; i < 4; ++i) {
      EXPECT_EQ(i >= 2, std::isnan(result.out.row(0, i, h)[0])) << i;
      EXPECT_EQ(i >= 2, !std::isfinite(result.lse[static_cast<std::size_t>(h * 4 + i)])) << i;
    }
  }
}

TEST(NonFinite, NanQueryStaysInItsRow) {
  Random random(15);
  AttentionCase c{
      .group = 3, .num_kv_heads = 2, .q_len = 5, .kv_len = 3, .head_dim = 16, .value_dim = 16};
  auto input = make_input<float, float>(c, random);
  const auto clean = attend_over(input, input.rows_kv(), erase_masks(Causal{}), one_thread);
  // Queries 0 and 1 stand at positions -2 and -1: they see nothing, and have nothing to be NaN of.
  for (const Index i : {1, 3}) input.q.row(0, i, 4)[2] = static_cast<float>(nan);
  const auto result = attend_over(input, input.rows_kv(), erase_masks(Causal{}), one_thread);
  for (Index h = 0; h < 6; ++h) {
    for (Index i = 0; i < 5; ++i) {
      const auto r = static_cast<std::size_t>(h * 5 + i);
      const float *y = result.out.row(0, i, h), *expected = clean.out.row(0, i, h);
      if (h == 4 && i == 3) {
        EXPECT_TRUE(std::isnan(result.lse[r]));
        EXPECT_TRUE(std::all_of(y, y + 16, [](float x) { return std::isnan(x); }));
      } else {
        EXPECT_EQ(result.lse[r], clean.lse[r]);
        EXPECT_TRUE(std::equal(y, y + 16, expected));
      }
    }
  }
}

TEST(NonFinite, RowsThatSeeNothingGiveZeroAndLseOfMinusInfinity) {
  Random random(16);
  for (const Index kv_len : {0, 3, 70, 600}) {
    AttentionCase c{.group = 3,
                    .num_kv_heads = 2,
                    .q_len = 9,
                    .kv_len = kv_len,
                    .head_dim = 16,
                    .value_dim = 16};
    const auto input = make_input<float, float>(c, random);
    const auto check = [&](const auto& result) {
      for (const float lse : result.lse) EXPECT_EQ(lse, -infinity);
      for (Index h = 0; h < 6; ++h) {
        for (Index i = 0; i < 9; ++i) {
          const float* y = result.out.row(0, i, h);
          EXPECT_TRUE(std::all_of(y, y + 16, [](float x) { return x == 0; }));
        }
      }
    };
    const auto hidden = erase_masks(mask_function([](const Where&) { return false; }));
    check(attend_over(input, input.cache(), hidden, one_thread));
    check(attend_over(input, input.rows_kv(), hidden, one_thread));
    check(attend_over(input, input.rows_kv(), hidden, TestExecutor{3}));
    auto behind = input;
    behind.positions.assign(9, -1);
    check(attend_over(behind, behind.cache(), erase_masks(Causal{}), one_thread));
  }
}

TEST(NonFinite, HugeScoresPickTheHighest) {
  // Scores of 1e6 and beyond: the softmax is a maximum, and nothing overflows on the way.
  Random random(17);
  AttentionCase c{.group = 2, .q_len = 3, .kv_len = 600, .head_dim = 16, .value_dim = 16};
  auto input = make_input<float, float>(c, random);
  for (const float size : {1e6f, 1e15f, 1e30f}) {
    input.k.for_each([](float& x) { x = -1; });
    input.q.for_each([&](float& x) { x = size; });
    for (const Index highest : {0, 31, 64, 300, 511, 512, 597}) {
      input.k.fill_row(0, highest, 0, 1);
      const auto result = attend_over(input, input.cache(), erase_masks(Causal{}), one_thread);
      for (Index h = 0; h < 2; ++h) {
        for (Index i = 0; i < 3; ++i) {
          const float* v = input.v.row(0, highest, 0);
          EXPECT_TRUE(std::equal(v, v + 16, result.out.row(0, i, h))) << size << ", " << highest;
          EXPECT_NEAR(result.lse[static_cast<std::size_t>(h * 3 + i)] / (4 * size), 1, 1e-6);
        }
      }
      input.k.fill_row(0, highest, 0, -1);
    }
  }
}

TEST(NonFinite, AScaleThatIsHardlyAnythingMakesAllKeysEqual) {
  Random random(18);
  AttentionCase c{.group = 2, .q_len = 3, .kv_len = 600, .head_dim = 16, .value_dim = 16};
  const auto input = make_input<float, float>(c, random);
  for (const double scale : {1e-30, 1e-36, 1e-38, 1e-40, 1e-44, 0.0}) {
    const auto result = attend_over(input, input.cache(), Causal{} & Scale{scale}, one_thread);
    for (Index i = 0; i < 3; ++i) {
      const auto keys = static_cast<double>(598 + i);
      double mean = 0;
      for (Index j = 0; j < 598 + i; ++j) mean += double(input.v.row(0, j, 0)[5]) / keys;
      for (Index h = 0; h < 2; ++h) {
        EXPECT_NEAR(result.out.row(0, i, h)[5], mean, 1e-5) << scale;
        EXPECT_NEAR(result.lse[static_cast<std::size_t>(h * 3 + i)], std::log(keys), 1e-5);
      }
    }
  }
}

}  // namespace
}  // namespace gqa::test
