// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A warm pass with a workspace allocates nothing, the projections included.
#include <gtest/gtest.h>

#include "layer.hpp"
#include "support/count_allocations.hpp"

namespace gqa::test {
namespace {

/// Wide enough that Eigen would allocate to pack the whole of a weight (512 x 512 floats: 1 MiB).
MultiHeadAttention<float> wide_layer(bool rope) {
  return random_layer<float>({.hidden_size = 512,
                              .num_heads = 8,
                              .num_kv_heads = 2,
                              .qkv_bias = true,
                              .rope = rope ? std::optional(RopeConfig{}) : std::nullopt,
                              .qk_norm = QkNorm{}});
}

TEST(Allocations, AWarmStepOfTheModuleDoesNone) {
  const auto layer = wide_layer(true);
  for (const Index batch : {1, 3, 20}) {
    for (const Index tokens : {1, 4}) {
      const auto x = random_hidden<float>(batch, tokens, 512);
      Hidden<float> y(batch, tokens, 512);
      KvCache<bfloat16> cache({.batch = batch, .capacity = 3 * tokens, .heads = layer.heads()});
      Workspace workspace;
      EXPECT_GT(allocations_of([&] { layer.forward(x, y, &cache, &workspace); }), 0);
      for (int step = 0; step < 2; ++step) {
        EXPECT_EQ(allocations_of([&] { layer.forward(x, y, &cache, &workspace); }), 0)
            << "batch " << batch << " tokens " << tokens;
      }
    }
  }
}

TEST(Allocations, AWarmPrefillDoesNoneEither) {
  const auto layer = wide_layer(true);
  const auto x = random_hidden<float>(1, 150, 512);
  Hidden<float> y(1, 150, 512);
  KvCache<float> cache({.capacity = 150, .heads = layer.heads()});
  Workspace workspace;
  layer.forward(x, y, &cache, &workspace);
  cache.clear();
  EXPECT_EQ(allocations_of([&] { layer.forward(x, y, &cache, &workspace); }), 0);
  layer.forward(x, y, nullptr, &workspace);
  EXPECT_EQ(allocations_of([&] { layer.forward(x, y, nullptr, &workspace); }), 0);
}

TEST(Allocations, WarmCrossAttentionDoesNone) {
  const auto layer = wide_layer(false);
  const auto x = random_hidden<float>(2, 1, 512), memory = random_hidden<float>(2, 40, 512);
  Hidden<float> y(2, 1, 512);
  KvCache<float> cache({.batch = 2, .capacity = 40, .heads = layer.heads()});
  Workspace workspace;
  layer.project_memory(memory, cache, &workspace);
  layer.cross(x, y, cache, &workspace);
  EXPECT_EQ(allocations_of([&] { layer.cross(x, y, cache, &workspace); }), 0);
  cache.clear();
  EXPECT_EQ(allocations_of([&] { layer.project_memory(memory, cache, &workspace); }), 0);
}

TEST(Allocations, AWarmTrainingStepDoesNone) {
  const auto layer = wide_layer(true);
  const auto x = random_hidden<float>(2, 150, 512);
  Hidden<float> y(2, 150, 512), dx(2, 150, 512);
  Workspace workspace;
  AttentionRecord<float> record;
  AttentionWeights<float> gradients(layer.config());
  const auto step = [&] {
    layer.forward(x, y, record, &workspace);
    layer.backward(x, y, dx, record, gradients, &workspace);
  };
  step();
  EXPECT_EQ(allocations_of(step), 0);
}

}  // namespace
}  // namespace gqa::test
