// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Attention to an encoder's memory, whose keys and values are computed once.
#include <gtest/gtest.h>

#include "layer.hpp"

namespace gqa::test {
namespace {

bool all(Index, Index) { return true; }

TEST(CrossAttention, IsTheFormulaForEveryGroup) {
  for (const Index num_kv_heads : {1, 2, 6}) {
    const auto layer = random_layer<float>({.hidden_size = 24,
                                            .num_heads = 6,
                                            .num_kv_heads = num_kv_heads,
                                            .head_dim = 8,
                                            .value_dim = 4,
                                            .kv_hidden_size = 20,
                                            .qkv_bias = true,
                                            .out_bias = true,
                                            .qk_norm = QkNorm{}});
    const auto x = random_hidden<float>(2, 5, 24), memory = random_hidden<float>(2, 70, 20, 8);
    Hidden<float> y(2, 5, 24);
    KvCache<float> cache({.batch = 2, .capacity = 70, .heads = layer.heads()});
    layer.project_memory(memory, cache);
    layer.cross(x, y, cache);
    for (Index b = 0; b < 2; ++b) {
      const auto expected =
          PlainLayer(layer)(rows_of_sequence(x, b, 5), rows_of_sequence(memory, b, 70), 0, all);
      EXPECT_LE(largest_difference(expected, y, b), 5e-6) << "num_kv_heads " << num_kv_heads;
    }
  }
}

TEST(CrossAttention, ReadsTheMemoryOnceForAllSteps) {
  const auto layer = random_layer<float>({.hidden_size = 32, .num_heads = 4, .num_kv_heads = 2});
  const auto x = random_hidden<float>(1, 6, 32), memory = random_hidden<float>(1, 9, 32, 8);
  KvCache<float> cache({.capacity = 9, .heads = layer.heads()});
  Workspace workspace;
  layer.project_memory(memory, cache, &workspace);
  Hidden<float> whole(1, 6, 32), step(1, 1, 32);
  layer.cross(x, whole, cache, &workspace);
  for (Index t = 0; t < 6; ++t) {
    const Hidden<float> one =
        x.slice(Eigen::array<Index, 3>{0, t, 0}, Eigen::array<Index, 3>{1, 1, 32});
    layer.cross(one, step, cache, &workspace);
    for (Index c = 0; c < 32; ++c) EXPECT_NEAR(step(0, 0, c), whole(0, t, c), 2e-6);
  }
  EXPECT_EQ(cache.length(0), 9);
}

TEST(CrossAttention, MemoriesOfABatchMayHaveTheirOwnLengths) {
  const auto layer = random_layer<float>({.hidden_size = 32, .num_heads = 4, .num_kv_heads = 1});
  const auto x = random_hidden<float>(3, 2, 32);
  auto memory = random_hidden<float>(3, 9, 32, 8);
  const std::vector<Index> lengths{9, 0, 4};
  for (Index b = 0; b < 3; ++b) {
    for (Index t = lengths[static_cast<std::size_t>(b)]; t < 9; ++t) {
      for (Index c = 0; c < 32; ++c) memory(b, t, c) = std::numeric_limits<float>::quiet_NaN();
    }
  }
  KvCache<float> cache({.batch = 3, .capacity = 9, .heads = layer.heads()});
  layer.project_memory(memory, cache, nullptr, Serial{}, lengths);
  Hidden<float> y(3, 2, 32);
  layer.cross(x, y, cache);
  for (Index b = 0; b < 3; ++b) {
    const Index n = lengths[static_cast<std::size_t>(b)];
    EXPECT_EQ(cache.length(b), n);
    const auto expected =
        PlainLayer(layer)(rows_of_sequence(x, b, 2), rows_of_sequence(memory, b, n), 0, all);
    EXPECT_LE(largest_difference(expected, y, b), 5e-6);
  }
}

TEST(CrossAttention, GrowsWithItsMemory) {  // a streaming encoder
  const auto layer = random_layer<float>({.hidden_size = 16, .num_heads = 2});
  const auto x = random_hidden<float>(1, 2, 16), memory = random_hidden<float>(1, 7, 16, 8);
  const Hidden<float> first =
      memory.slice(Eigen::array<Index, 3>{0, 0, 0}, Eigen::array<Index, 3>{1, 3, 16});
  const Hidden<float> second =
      memory.slice(Eigen::array<Index, 3>{0, 3, 0}, Eigen::array<Index, 3>{1, 4, 16});
  KvCache<float> cache({.capacity = 7, .heads = layer.heads()});
  layer.project_memory(first, cache);
  layer.project_memory(second, cache);
  Hidden<float> y(1, 2, 16);
  layer.cross(x, y, cache);
  const auto expected =
      PlainLayer(layer)(rows_of_sequence(x, 0, 2), rows_of_sequence(memory, 0, 7), 0, all);
  EXPECT_LE(largest_difference(expected, y, 0), 5e-6);
}

}  // namespace
}  // namespace gqa::test
