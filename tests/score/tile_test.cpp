// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// tile() against visible(), over random tiles: skip means that no pair is visible, full that all
// are. Where a mask promises no less, partial means that neither holds.
#include <gtest/gtest.h>

#include "support/rule_choices.hpp"

namespace gqa::test {
namespace {

struct TileCase {
  Tile tile;
  std::vector<Index> q_pos;  // of queries [q_begin, q_end)
};

std::string to_string(const Tile& t) {
  return message("batch ", t.batch, ", head ", t.head, ", queries [", t.q_begin, ", ", t.q_end,
                 ") at [", t.q_pos_min, ", ", t.q_pos_max, "], keys [", t.k_begin, ", ", t.k_end,
                 ") from ", t.k_pos);
}

TileCase random_tile(Random& random, const AttentionShape& s, bool consecutive) {
  TileCase c;
  Tile& t = c.tile;
  t.batch = random.integer(0, s.batch - 1);
  t.head = random.integer(0, s.num_heads - 1);
  t.q_begin = random.integer(0, s.q_len - 1);
  t.q_end = random.integer(t.q_begin + 1, s.q_len);
  t.k_begin = random.integer(0, s.kv_len - 1);
  t.k_end = random.integer(t.k_begin + 1, std::min(s.kv_len, t.k_begin + 64));
  t.k_pos = t.k_begin + (random.chance(0.5) ? 0 : random.integer(-10, 30));
  const Index first = random.integer(-10, s.kv_len + 10);
  for (Index i = t.q_begin; i < t.q_end; ++i) {
    c.q_pos.push_back(consecutive ? first + i : random.integer(-10, s.kv_len + 10));
  }
  t.q_pos_min = *std::min_element(c.q_pos.begin(), c.q_pos.end());
  t.q_pos_max = *std::max_element(c.q_pos.begin(), c.q_pos.end());
  return c;
}

/// The exact answer, pair by pair.
Coverage exact_coverage(const AnyRules& mask, const TileCase& c) {
  const Tile& t = c.tile;
  bool none = true, all = true;
  for (Index i = t.q_begin; i < t.q_end; ++i) {
    for (Index j = t.k_begin; j < t.k_end; ++j) {
      const bool visible = mask.visible({.batch = t.batch,
                                         .head = t.head,
                                         .q_index = i,
                                         .k_index = j,
                                         .q_pos = c.q_pos[static_cast<std::size_t>(i - t.q_begin)],
                                         .k_pos = t.k_pos + j - t.k_begin});
      (visible ? none : all) = false;
    }
  }
  return coverage(none, all);
}

constexpr AttentionShape shape{.batch = 2,
                               .q_len = 20,
                               .kv_len = 150,
                               .num_heads = 4,
                               .num_kv_heads = 2,
                               .head_dim = 8,
                               .value_dim = 8};

/// Compares tile() with the pairs of random tiles. `consecutive`: queries stand side by side.
void check_tiles(const AnyRules& mask, bool consecutive, bool must_be_exact,
                 const std::string& what) {
  Random random(3);
  for (int round = 0; round < 1000; ++round) {
    const TileCase c = random_tile(random, shape, consecutive);
    const Coverage exact = exact_coverage(mask, c), answer = mask.tile(c.tile);
    if (answer != Coverage::partial || must_be_exact) {
      ASSERT_EQ(static_cast<int>(answer), static_cast<int>(exact))
          << what << ": " << to_string(c.tile);
    }
  }
}

class TileOfMask : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(AllMasks, TileOfMask,
                         testing::Range(0, static_cast<int>(mask_names.size())));

TEST_P(TileOfMask, AgreesWithVisible) {
  const auto choice = MaskChoice(GetParam());
  Random random(5);
  RuleFactory factory(shape, random);
  for (int table = 0; table < 10; ++table) {
    for (const bool consecutive : {true, false}) {
      check_tiles(*factory.mask(choice), consecutive, false,
                  mask_names[static_cast<std::size_t>(choice)]);
    }
  }
}

TEST(Tile, IsExactForSimpleMasksAndQueriesInARow) {
  Random random(6);
  RuleFactory factory(shape, random);
  for (int table = 0; table < 20; ++table) {
    for (const MaskChoice choice :
         {MaskChoice::none, MaskChoice::causal, MaskChoice::causal_top_left,
          MaskChoice::window_left, MaskChoice::window_both, MaskChoice::window_ahead,
          MaskChoice::prefix_lm, MaskChoice::prefix_lm_per_sequence, MaskChoice::dense,
          MaskChoice::dense_per_head, MaskChoice::dense_short}) {
      check_tiles(*factory.mask(choice), true, true, mask_names[static_cast<std::size_t>(choice)]);
    }
  }
}

TEST(Tile, AgreesWithVisibleForBiasesThatHide) {
  Random random(7);
  RuleFactory factory(shape, random);
  for (int table = 0; table < 10; ++table) {
    check_tiles(*factory.score(ScoreChoice::additive_bias), false, true, "AdditiveBias");
    check_tiles(*factory.score(ScoreChoice::additive_bias_hiding), false, true,
                "AdditiveBias, -inf");
    check_tiles(*factory.score(ScoreChoice::all_together), false, false, "all together");
  }
}

TEST(Tile, AgreesWithVisibleForCompositions) {
  Random random(8);
  for (int table = 0; table < 100; ++table) {
    const Index left = random.integer(-1, 60), right = random.integer(-1, 30),
                keep = random.integer(0, 80);
    const SlidingWindow window{.left = left, .right = right};
    const PrefixLm prefix{.length = random.integer(0, 100)};
    check_tiles(*erase(window & KeepFirst{keep}), false, false, "window & KeepFirst");
    check_tiles(*erase(Causal{} & window & KeepFirst{keep}), true, false,
                "Causal & window & KeepFirst");
    check_tiles(*erase(prefix & window), true, false, "PrefixLm & window");
    check_tiles(
        *erase(window & SlidingWindow{.left = 40, .right = 3} & KeepFirst{keep} & KeepFirst{3}),
        false, false, "two windows, two exceptions");
    if (HasFatalFailure()) return;
  }
}

TEST(Tile, AgreesWithVisibleForTheLargestNumbers) {
  constexpr Index most = std::numeric_limits<Index>::max();
  for (const bool consecutive : {true, false}) {
    for (const Index large : {most, most - 1, most - 5, most / 2}) {
      for (const Index other : {large, SlidingWindow::unlimited, Index{3}}) {
        const SlidingWindow left{.left = large, .right = other};
        const SlidingWindow right{.left = other, .right = large};
        check_tiles(*erase(left), consecutive, consecutive, "window, large left");
        check_tiles(*erase(right), consecutive, consecutive, "window, large right");
        check_tiles(*erase(right & KeepFirst{large}), consecutive, false, "window & KeepFirst");
      }
      check_tiles(*erase(PrefixLm{.length = large}), consecutive, consecutive, "PrefixLm");
    }
  }
}

TEST(Tile, SkipsAndFillsWhatCausalPrefillAndWindowsDependOn) {
  // Half of causal prefill, all but the window of a long sequence: worth having exactly.
  const Tile ahead{.q_begin = 0,
                   .q_end = 4,
                   .q_pos_min = 96,
                   .q_pos_max = 99,
                   .k_begin = 100,
                   .k_end = 164,
                   .k_pos = 100};
  const Tile before{.q_begin = 0,
                    .q_end = 4,
                    .q_pos_min = 96,
                    .q_pos_max = 99,
                    .k_begin = 0,
                    .k_end = 64,
                    .k_pos = 0};
  EXPECT_EQ(Causal{}.tile(ahead), Coverage::skip);
  EXPECT_EQ(Causal{}.tile(before), Coverage::full);
  EXPECT_EQ(SlidingWindow::from_hf(30).tile(before), Coverage::skip);
  EXPECT_EQ((Causal{} & SlidingWindow::from_hf(30)).tile(before), Coverage::skip);
  EXPECT_EQ((Causal{} & SlidingWindow::from_hf(30) & KeepFirst{64}).tile(before), Coverage::full);
  EXPECT_EQ((Causal{} & SlidingWindow::from_hf(30) & KeepFirst{64}).tile(ahead), Coverage::skip);
}

/// range() of rules against visible(), key by key, for queries and keys at random places.
template <typename RulesT>
void check_range(const RulesT& rules, const char* what) {
  static_assert(RulesT::has_range);
  Random random(8);
  for (int round = 0; round < 300; ++round) {
    Where at{.batch = random.integer(0, 1),
             .q_index = random.integer(0, 150),
             .k_index = random.integer(0, 150),
             .q_pos = random.integer(-10, 200)};
    at.k_pos = at.k_index + random.integer(-10, 30);
    const KeyRange range = rules.range(at);
    for (Index i = -70; i < 70; ++i) {
      Where key = at;
      key.k_index += i;
      key.k_pos += i;
      ASSERT_EQ(i >= range.begin && i < range.end, rules.visible(key))
          << what << ": query " << at.q_index << " at " << at.q_pos << ", key " << key.k_index
          << " at " << key.k_pos;
    }
  }
}

TEST(Range, AgreesWithVisible) {
  const std::vector<Index> lengths{20, 70};
  check_range(as_rules(NoMask{}), "NoMask");
  check_range(as_rules(Causal{}), "Causal");
  check_range(as_rules(Causal::top_left()), "Causal, top left");
  check_range(as_rules(SlidingWindow{.left = 30}), "SlidingWindow, left");
  check_range(as_rules(SlidingWindow{.right = 5}), "SlidingWindow, right");
  check_range(as_rules(PrefixLm{.length = 40}), "PrefixLm");
  check_range(as_rules(PrefixLm{.lengths = lengths}), "PrefixLm, per sequence");
  check_range(Causal{} & SlidingWindow{.left = 30, .right = 9} & SlidingWindow{.left = 12},
              "several");
  constexpr Index most = std::numeric_limits<Index>::max();
  check_range(as_rules(SlidingWindow{.left = most}), "the largest left");
  check_range(as_rules(SlidingWindow{.left = 3, .right = most}), "the largest right");
  check_range(PrefixLm{.length = most} & SlidingWindow{.left = most - 1, .right = most - 1},
              "the largest of all");
  const auto exception = SlidingWindow{.left = 30} & KeepFirst{4};
  static_assert(!decltype(exception)::has_range, "what is kept is no part of the stretch");
}

}  // namespace
}  // namespace gqa::test
