// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// With a workspace, a warm decode step allocates nothing.
#include <gtest/gtest.h>

#include "gqa/cache/paged.hpp"
#include "gqa/kernel/shared_prefix.hpp"
#include "support/attention_check.hpp"
#include "support/count_allocations.hpp"

namespace gqa::test {
namespace {

TEST(Allocations, AreCounted) {
  EXPECT_EQ(allocations_of([] {
              const auto number = std::make_unique<int>(3);
              see(number.get());
            }),
            1);
  EXPECT_EQ(allocations_of([] { see(AlignedBuffer(1000).data()); }), 1);
  EXPECT_EQ(allocations_of([] { see(Eigen::VectorXf(1000).setZero().data()); }), 1);  // malloc
  EXPECT_EQ(allocations_of([] {}), 0);
}

/// Decodes token after token; the first step warms the workspace up.
template <Scalar Storage>
void check_decode(const auto& rules, Index tokens_at_a_time) {
  Random random(1);
  const Index steps = 200, num_kv_heads = 2, num_heads = 6, dim = 64;
  KvCache<Storage> cache(
      {.batch = 2, .capacity = 2000, .heads = {num_heads, num_kv_heads, dim, dim}});
  const auto q = random_tensor<float>(random, {2, tokens_at_a_time, num_heads, dim});
  const auto k = random_tensor<float>(random, {2, tokens_at_a_time, num_kv_heads, dim});
  AttentionResult<float, float> result({2, tokens_at_a_time, num_heads, dim});
  Workspace workspace;
  const auto step = [&] {
    cache.append(k.view(), k.view());
    attend(q.view(), cache, result.out.view(), rules,
           {.lse = result.lse_view(), .workspace = &workspace});
  };
  step();
  EXPECT_EQ(allocations_of([&] {
              for (Index i = 1; i < steps; ++i) step();
              cache.truncate_all(10);
              cache.clear(1);
            }),
            0);
}

TEST(Allocations, NoneInAWarmDecodeStep) {
  check_decode<float>(Causal{}, 1);
  check_decode<bfloat16>(Causal{} & SlidingWindow::from_hf(50), 1);
  check_decode<half>(Causal{}, 8);
}

TEST(Allocations, NoneInAWarmDecodeStepWithScoreRules) {
  const std::vector<float> sinks(6, 0.5f);
  check_decode<float>(Causal{} & SoftCap{20.0f} & SinkLogits{sinks}, 1);
  check_decode<float>(Causal{} & Alibi::standard(6), 1);
  check_decode<float>(Alibi::standard(6), 1);
}

TEST(Allocations, NoneInAWarmDecodeStepOverRows) {
  // Rows are packed block by block into the workspace.
  Random random(2);
  const auto q = random_tensor<float>(random, {1, 1, 6, 64});
  const auto k = random_tensor<float>(random, {1, 700, 2, 64});
  AttentionResult<float, float> result({1, 1, 6, 64});
  Workspace workspace;
  const auto step = [&] {
    attend(q.view(), k.view(), k.view(), result.out.view(), Causal{}, {.workspace = &workspace});
  };
  step();
  EXPECT_EQ(allocations_of(step), 0);
}

TEST(Allocations, NoneInAWarmStepOverASharedPrefix) {
  const Heads<> heads(6, 2, 64);
  const auto allocator = std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = 40, .page_bytes = PagedKvCache<float>::page_bytes(heads)});
  PagedKvCache<float> cache(allocator, {.batch = 3, .capacity = 1000, .heads = heads});
  Random random(2);
  const auto k = random_tensor<float>(random, {1, 700, 2, 64});
  cache.append(0, k.view(), k.view());
  cache.fork(0, 1);
  const auto q = random_tensor<float>(random, {3, 1, 6, 64});
  const auto one = random_tensor<float>(random, {3, 1, 2, 64});
  AttentionResult<float, float> result(q.shape());
  Workspace workspace;
  const auto step = [&] {
    cache.append(one.view(), one.view());
    attend_shared_prefix(q.view(), cache, result.out.view(), Causal{}, {.workspace = &workspace});
  };
  step();
  EXPECT_EQ(allocations_of([&] {
              for (int i = 0; i < 70; ++i) step();  // into another page
            }),
            0);
}

TEST(Allocations, NoneInAWarmPrefillOfTheSameSize) {
  Random random(3);
  const auto q = random_tensor<float>(random, {1, 100, 6, 64});
  const auto k = random_tensor<float>(random, {1, 100, 2, 64});
  AttentionResult<float, float> result({1, 100, 6, 64});
  Workspace workspace;
  const auto step = [&] {
    attend(q.view(), k.view(), k.view(), result.out.view(), Causal{}, {.workspace = &workspace});
  };
  step();
  const std::size_t bytes = workspace.bytes();
  EXPECT_EQ(allocations_of(step), 0);
  EXPECT_EQ(workspace.bytes(), bytes);
}

TEST(Allocations, NoneInAWarmBackwardPassAndScratchIsLinear) {
  std::size_t bytes[2] = {};
  for (const Index tokens : {600, 1200}) {
    Random random(5);
    const auto q = random_tensor<float>(random, {1, tokens, 12, 16});
    const auto k = random_tensor<float>(random, {1, tokens, 12, 16});
    AttentionResult<float, float> result({1, tokens, 12, 16});
    attend(q.view(), k.view(), k.view(), result.out.view(), Causal{}, {.lse = result.lse_view()});
    TestTensor<float> dq(q.shape()), dk(k.shape()), dv(k.shape());
    Workspace workspace;
    const auto step = [&] {
      attend_backward(q.view(), q.view(), k.view(), k.view(), result.out.view(), result.lse_view(),
                      dq.view(), dk.view(), dv.view(), Causal{}, {.workspace = &workspace});
    };
    step();
    EXPECT_EQ(allocations_of(step), 0);
    bytes[tokens / 1200] = workspace.bytes();
  }
  // A matrix of q_len x kv_len would be four times as large.
  EXPECT_LE(bytes[1], bytes[0] * 5 / 2);
}

TEST(Allocations, ScratchDoesNotGrowWithTheKeys) {
  // No row of scores of kv_len, no repeated keys: scratch is a matter of rows and dimensions.
  Random random(4);
  const auto q = random_tensor<float>(random, {1, 1, 8, 64});
  std::size_t bytes = 0;
  for (const Index kv_len : {600, 6000}) {
    const auto k = random_tensor<float>(random, {1, kv_len, 2, 64});
    KvCache<float> cache({.capacity = kv_len, .heads = {8, 2, 64}});
    cache.append(k.view(), k.view());
    AttentionResult<float, float> result({1, 1, 8, 64});
    Workspace workspace;
    attend(q.view(), cache, result.out.view(), Causal{}, {.workspace = &workspace});
    if (bytes == 0) bytes = workspace.bytes();
    EXPECT_EQ(workspace.bytes(), bytes);
  }
}

}  // namespace
}  // namespace gqa::test
