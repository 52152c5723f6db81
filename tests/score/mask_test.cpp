// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Which keys each mask shows, drawn as pictures; and which tables it refuses.
#include "gqa/score/mask.hpp"

#include <gtest/gtest.h>

#include "gqa/core/eigen.hpp"
#include "gqa/score/rules.hpp"
#include "support/errors.hpp"

namespace gqa::test {
namespace {

/// A row per query, a character per key: x is visible. Queries stand at the end of the sequence.
std::string picture(const auto& mask, Index q_len, Index kv_len, Index first_position = 0) {
  std::string text;
  for (Index i = 0; i < q_len; ++i) {
    for (Index j = 0; j < kv_len; ++j) {
      const Where where{.q_index = i,
                        .k_index = j,
                        .q_pos = first_position + kv_len - q_len + i,
                        .k_pos = first_position + j};
      text += mask.visible(where) ? 'x' : '.';
    }
    text += '\n';
  }
  return text;
}

TEST(Masks, NoMaskShowsEverything) { EXPECT_EQ(picture(NoMask{}, 2, 3), "xxx\nxxx\n"); }

TEST(Masks, CausalIsAlignedAtTheBottomRight) {
  EXPECT_EQ(picture(Causal{}, 3, 5),
            "xxx..\n"
            "xxxx.\n"
            "xxxxx\n");
  // More queries than keys: the first ones stand at negative positions and see nothing.
  EXPECT_EQ(picture(Causal{}, 4, 2),
            "..\n"
            "..\n"
            "x.\n"
            "xx\n");
}

TEST(Masks, CausalTopLeftComparesIndices) {
  EXPECT_EQ(picture(Causal::top_left(), 3, 5, 100),
            "x....\n"
            "xx...\n"
            "xxx..\n");
}

TEST(Masks, SlidingWindowCountsKeysBesideItsOwn) {
  EXPECT_EQ(picture(SlidingWindow{.left = 1, .right = 2}, 3, 6),
            "..xxxx\n"
            "...xxx\n"
            "....xx\n");
  EXPECT_EQ(picture(SlidingWindow{.left = 1, .right = 0}, 6, 6),
            "x.....\n"
            "xx....\n"
            ".xx...\n"
            "..xx..\n"
            "...xx.\n"
            "....xx\n");
  EXPECT_EQ(picture(SlidingWindow{.left = 0, .right = 0}, 2, 3), ".x.\n..x\n");
  EXPECT_EQ(picture(SlidingWindow{}, 1, 3), "xxx\n");
  EXPECT_EQ(picture(SlidingWindow{.right = 1}, 3, 3), "xx.\nxxx\nxxx\n");
  EXPECT_EQ(picture(SlidingWindow{.left = 1}, 3, 3), "xxx\nxxx\n.xx\n");
}

TEST(Masks, TheLargestNumberIsNoLimit) {
  constexpr Index most = std::numeric_limits<Index>::max();
  for (const Index first : {Index{0}, Index{1000}, Index{-1000}, farthest_position - 9}) {
    EXPECT_EQ(picture(SlidingWindow{.left = most}, 2, 5, first), "xxxxx\nxxxxx\n");
    EXPECT_EQ(picture(SlidingWindow{.right = most}, 2, 5, first), "xxxxx\nxxxxx\n");
    EXPECT_EQ(picture(SlidingWindow::from_flash(most, most), 2, 5, first), "xxxxx\nxxxxx\n");
    EXPECT_EQ(picture(SlidingWindow::from_hf(most), 2, 5, first), "xxxx.\nxxxxx\n");
    EXPECT_EQ(picture(SlidingWindow{.left = 1, .right = most - 1}, 2, 5, first), "..xxx\n...xx\n");
    EXPECT_EQ(picture(PrefixLm{.length = most}, 2, 5, first), "xxxxx\nxxxxx\n");
    EXPECT_EQ(picture(SlidingWindow{.left = 0} & KeepFirst{most}, 2, 5, first), "xxxxx\nxxxxx\n");
  }
}

TEST(Masks, DocumentsRefuseRowsWhoseProductWraps) {
  const Documents mask{.q_ids = {}, .k_ids = {}, .q_len = Index{1} << 62, .kv_len = Index{1} << 62};
  EXPECT_EQ(error_of([&] { mask.check({.batch = 4, .q_len = 5, .kv_len = 5}); }),
            "Documents has 0 query ids in rows of 4611686018427387904 for [batch, q_len] = [4, 5]");
}

TEST(Masks, SlidingWindowTakesOthersConventions) {
  // Hugging Face's window of 3 holds the query's own key and two before it.
  EXPECT_EQ(picture(SlidingWindow::from_hf(3), 2, 5), ".xxx.\n..xxx\n");
  EXPECT_EQ(picture(SlidingWindow::from_flash(2, 0), 2, 5), ".xxx.\n..xxx\n");
  EXPECT_EQ(picture(SlidingWindow::from_flash(-1, -1), 1, 3), "xxx\n");
  EXPECT_EQ(error_of([] { SlidingWindow::from_hf(0); }),
            "SlidingWindow::from_hf: the window must be positive, is 0");
  EXPECT_EQ(error_of([] { SlidingWindow::from_flash(-2, 3); }),
            "SlidingWindow::from_flash: window sizes are -1 or more, got -2 and 3");
  EXPECT_EQ(error_of([] { SlidingWindow::from_flash(0, -5); }),
            "SlidingWindow::from_flash: window sizes are -1 or more, got 0 and -5");
}

TEST(Masks, KeepFirstIsAnExceptionToWindowsOnly) {
  const auto window = SlidingWindow{.left = 1, .right = 0};
  EXPECT_EQ(picture(Causal{} & window & KeepFirst{2}, 6, 6),
            "x.....\n"
            "xx....\n"
            "xxx...\n"
            "xxxx..\n"
            "xx.xx.\n"
            "xx..xx\n");
  // It lifts the window's right side, too, but not Causal.
  EXPECT_EQ(picture(window & KeepFirst{2}, 2, 4, -2), "xxxx\nxxxx\n");
  EXPECT_EQ(picture(Causal{} & KeepFirst{3}, 3, 3), picture(Causal{}, 3, 3));
  EXPECT_EQ(picture(NoMask{} & KeepFirst{1}, 2, 3), "xxx\nxxx\n");
  EXPECT_EQ(picture(as_rules(KeepFirst{1}), 1, 3), "xxx\n");
  // Positions count, not indices: of a sequence that starts at 1, one of the first two is left.
  EXPECT_EQ(picture(Causal{} & window & KeepFirst{2}, 1, 5, 1), "x..xx\n");
}

TEST(Masks, SeveralWindowsHideWhatAnyHides) {
  EXPECT_EQ(picture(SlidingWindow{.left = 2} & SlidingWindow{.right = 0} & KeepFirst{1}, 2, 6),
            "x.xxx.\n"
            "x..xxx\n");
}

TEST(Masks, PrefixLmSeesThePrefixBothWays) {
  EXPECT_EQ(picture(PrefixLm{.length = 3}, 5, 5),
            "xxx..\n"
            "xxx..\n"
            "xxx..\n"
            "xxxx.\n"
            "xxxxx\n");
  const std::vector<Index> lengths{1, 2};
  const PrefixLm mask{.length = 7, .lengths = lengths};
  EXPECT_FALSE(mask.visible({.batch = 0, .q_pos = 0, .k_pos = 1}));
  EXPECT_TRUE(mask.visible({.batch = 1, .q_pos = 0, .k_pos = 1}));
  EXPECT_EQ(error_of([&] { mask.check({.batch = 3}); }), "PrefixLm has 2 lengths for a batch of 3");
  mask.check({.batch = 2});
}

TEST(Masks, DocumentsSeeTheirOwn) {
  const std::vector<int> q_ids{5, 5, -1}, k_ids{5, -1, 5, 9};
  const Documents mask{.q_ids = q_ids, .k_ids = k_ids, .q_len = 3, .kv_len = 4};
  EXPECT_EQ(picture(mask, 3, 4), "x.x.\nx.x.\n.x..\n");
  EXPECT_EQ(error_of([&] { mask.check({.batch = 2, .q_len = 3, .kv_len = 4}); }),
            "Documents has 3 query ids in rows of 3 for [batch, q_len] = [2, 3]");
  EXPECT_EQ(error_of([&] { mask.check({.batch = 1, .q_len = 4, .kv_len = 4}); }),
            "Documents has 3 query ids in rows of 3 for [batch, q_len] = [1, 4]");
  EXPECT_EQ(error_of([&] { mask.check({.batch = 1, .q_len = 3, .kv_len = 5}); }),
            "Documents has 4 key ids in rows of 4 for [batch, kv_len] = [1, 5]");
  mask.check({.batch = 1, .q_len = 2, .kv_len = 4});  // tables may be wider
}

TEST(Masks, DenseMaskIsLookedUpByIndexAndBroadcast) {
  Eigen::Tensor<bool, 2, Eigen::RowMajor> plane(2, 3);
  plane.setValues({{true, false, true}, {false, true, true}});
  EXPECT_EQ(picture(DenseMask{plane}, 2, 3, 50), "x.x\n.xx\n");
  // Shorter than the keys: those after it are hidden.
  EXPECT_EQ(picture(DenseMask{plane}, 2, 5), "x.x..\n.xx..\n");

  Eigen::Tensor<bool, 4, Eigen::RowMajor> per_head(1, 2, 1, 2);  // one row for all queries
  per_head.setValues({{{{true, false}}, {{false, true}}}});
  const DenseMask mask{per_head};
  for (const Index batch : {0, 3}) {
    for (const Index q_index : {0, 9}) {
      EXPECT_TRUE(mask.visible({.batch = batch, .head = 0, .q_index = q_index, .k_index = 0}));
      EXPECT_FALSE(mask.visible({.batch = batch, .head = 0, .q_index = q_index, .k_index = 1}));
      EXPECT_FALSE(mask.visible({.batch = batch, .head = 1, .q_index = q_index, .k_index = 0}));
      EXPECT_TRUE(mask.visible({.batch = batch, .head = 1, .q_index = q_index, .k_index = 1}));
    }
  }
}

TEST(Masks, DenseMaskRefusesOtherShapes) {
  const bool* data = nullptr;
  const DenseMask mask{
      DenseView<bool>(data, {.batch = 2, .num_heads = 3, .q_len = 4, .kv_len = 5})};
  AttentionShape shape{.batch = 2, .q_len = 4, .kv_len = 9, .num_heads = 3};
  mask.check(shape);
  shape.batch = 3;
  EXPECT_EQ(error_of([&] { mask.check(shape); }), "DenseMask has batch 2, expected 3 or 1");
  shape.batch = 2;
  shape.num_heads = 6;
  EXPECT_EQ(error_of([&] { mask.check(shape); }), "DenseMask has num_heads 3, expected 6 or 1");
  shape.num_heads = 3;
  shape.q_len = 5;
  EXPECT_EQ(error_of([&] { mask.check(shape); }), "DenseMask has q_len 4, expected 5 or 1");
}

TEST(Masks, FunctionsDecideByThemselves) {
  const auto even = mask_function([](const Where& w) { return w.k_index % 2 == 0; });
  EXPECT_EQ(picture(even, 1, 5), "x.x.x\n");
  EXPECT_EQ(picture(even & Causal{}, 2, 4), "x.x.\nx.x.\n");
}

}  // namespace
}  // namespace gqa::test
