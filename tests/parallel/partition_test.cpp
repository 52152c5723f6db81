// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/parallel/partition.hpp"

#include <gtest/gtest.h>

#include <set>
#include <tuple>
#include <vector>

#include "support/random.hpp"

namespace gqa::test {
namespace {

TEST(TaskList, NumbersEveryPartOnce) {
  Random random(1);
  for (int round = 0; round < 200; ++round) {
    const Index batch = random.integer(0, 6), num_kv_heads = random.integer(1, 4);
    std::vector<SequenceParts> all;
    for (Index b = 0; b < batch; ++b) all.push_back({random.integer(0, 3), random.integer(1, 4)});
    const auto parts = [&](Index b) { return all[static_cast<std::size_t>(b)]; };
    std::vector<Index> first(static_cast<std::size_t>(batch + 1));
    const TaskList list(first.data(), batch, num_kv_heads, parts);

    std::set<std::tuple<Index, Index, Index, Index>> expected, found;
    for (Index b = 0; b < batch; ++b) {
      for (Index r = 0; r < parts(b).row_blocks; ++r) {
        for (Index h = 0; h < num_kv_heads; ++h) {
          for (Index s = 0; s < parts(b).splits; ++s) expected.emplace(b, h, r, s);
        }
      }
    }
    ASSERT_EQ(list.size(), std::ssize(expected));
    for (Index i = 0; i < list.size(); ++i) {
      const Index b = list.sequence_of(i);
      const Task task = list(i, b, parts(b));
      found.emplace(task.batch, task.kv_head, task.row_block, task.split);
      EXPECT_EQ(task.batch, b);
      EXPECT_EQ(list.number(task, parts(b)), i);
    }
    EXPECT_EQ(found, expected);
  }
}

TEST(TaskList, PutsTheLongestRowBlocksFirst) {
  // Under a causal mask the last rows see the most keys.
  Index first[2];
  const auto parts = [](Index) { return SequenceParts{.row_blocks = 5, .splits = 1}; };
  const TaskList list(first, 1, 2, parts);
  for (Index i = 1; i < list.size(); ++i) {
    EXPECT_LE(list(i, 0, parts(0)).row_block, list(i - 1, 0, parts(0)).row_block);
  }
  EXPECT_EQ(list(0, 0, parts(0)).row_block, 4);
}

TEST(TaskList, NumbersTheHeadsOfASplitTogetherAndSplitsInKeyOrder) {
  // decode.hpp merges the states of every num_kv_heads-th task behind the first split's.
  Index first[2];
  const auto parts = [](Index) { return SequenceParts{.row_blocks = 2, .splits = 3}; };
  const TaskList list(first, 1, 4, parts);
  for (Index i = 0; i < list.size(); ++i) {
    const Task task = list(i, 0, parts(0));
    EXPECT_EQ(task.kv_head, i % 4);
    EXPECT_EQ(task.split, i / 4 % 3);
    EXPECT_EQ(task.row_block, i / 12 == 0 ? 1 : 0);
  }
}

}  // namespace
}  // namespace gqa::test
