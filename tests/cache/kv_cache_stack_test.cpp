// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/cache/kv_cache_stack.hpp"

#include <gtest/gtest.h>

#include "gqa/cache/contiguous.hpp"
#include "gqa/cache/kv_memory.hpp"
#include "gqa/cache/paged.hpp"
#include "gqa/cache/ring.hpp"
#include "support/errors.hpp"
#include "tokens.hpp"

namespace gqa::test {
namespace {

const Heads<> heads(4, 2, 8);
constexpr Index layers = 3;

/// Layer i holds the numbers given, plus 1000 i.
template <typename Stack>
void append_to_all(Stack& stack, Index sequence, Index count) {
  for (Index i = 0; i < stack.num_layers(); ++i) {
    append_numbers(stack[i], sequence, counting(1000 * i + stack[i].length(sequence), count));
  }
}
template <typename Stack>
void expect_counting(const Stack& stack, Index sequence, Index length) {
  ASSERT_EQ(stack.length(sequence), length);
  for (Index i = 0; i < stack.num_layers(); ++i) {
    EXPECT_EQ(read_numbers(stack[i], sequence), counting(1000 * i, length)) << "layer " << i;
  }
}

KvCacheStack<PagedKvCache<float>> make_paged(Index pages) {
  const auto allocator = std::make_shared<PageAllocator>(PageAllocator::Options{
      .pages = pages, .page_bytes = PagedKvCache<float>::page_bytes(heads, 128)});
  return {layers, allocator, {.batch = 3, .capacity = 500, .page_tokens = 128, .heads = heads}};
}

template <typename Stack>
void expect_sequence_operations_in_all_layers(Stack stack) {
  append_to_all(stack, 0, 90);
  append_to_all(stack, 1, 7);
  stack.fork(0, 2);
  stack.truncate(2, 70);
  expect_counting(stack, 0, 90);
  expect_counting(stack, 2, 70);
  stack.reorder(std::vector<Index>{1, 2, 2});
  expect_counting(stack, 0, 7);
  expect_counting(stack, 1, 70);
  append_to_all(stack, 2, 30);
  const Stack copy = stack.clone();
  stack.truncate_all(5);
  for (Index b = 0; b < 3; ++b) expect_counting(stack, b, 5);
  stack.clear(1);
  expect_counting(stack, 1, 0);
  stack.clear();
  expect_counting(stack, 0, 0);
  expect_counting(copy, 0, 7);
  expect_counting(copy, 1, 70);
  expect_counting(copy, 2, 100);
}

TEST(KvCacheStack, DoesToAllLayersWhatItDoes) {
  using Contiguous = KvCacheStack<KvCache<float>>;
  using Ring = KvCacheStack<RingKvCache<float>>;
  expect_sequence_operations_in_all_layers(
      Contiguous(layers, {.batch = 3, .capacity = 100, .heads = heads}));
  expect_sequence_operations_in_all_layers(
      Ring(layers, {.batch = 3, .window = 60, .spare = 100, .heads = heads}));
  expect_sequence_operations_in_all_layers(make_paged(30));
}

TEST(KvCacheStack, TakesBackAStepThatFailsHalfway) {
  auto stack = make_paged(4);
  append_to_all(stack, 0, 100);  // a page in each layer, one is left
  AppendTransaction step;
  EXPECT_EQ(error_of<std::length_error>([&] {
              stack.plan_append(step, std::vector<Index>{30, 0, 0});
            }),
            "PageAllocator: 1 pages are needed, 0 of 4 are free");
  step.roll_back();
  EXPECT_EQ(stack[0].allocator()->statistics().free, 1);
  stack.plan_append(step, 0, 20);
  append_numbers(stack[0], 0, counting(100, 20));
  step.roll_back();
  expect_counting(stack, 0, 100);
  stack.plan_append(step, 0, 20);
  append_to_all(stack, 0, 20);
  step.commit();
  expect_counting(stack, 0, 120);
}

/// Shortening to within a shared page takes a copy of it, in each layer.
TEST(KvCacheStack, ShortensAllLayersOrNone) {
  auto stack = make_paged(5);
  append_to_all(stack, 0, 100);
  stack.fork(0, 1);
  EXPECT_EQ(error_of<std::length_error>([&] { stack.truncate(1, 70); }),
            "PageAllocator: 1 pages are needed, 0 of 5 are free");
  expect_counting(stack, 0, 100);
  expect_counting(stack, 1, 100);
  EXPECT_EQ(error_of([&] { stack.truncate(1, 101); }),
            "PagedKvCache::truncate: length 101 is outside of [0, 100] (sequence 1)");
  stack.truncate(1, 64);
  expect_counting(stack, 0, 100);
  expect_counting(stack, 1, 64);

  using Ring = KvCacheStack<RingKvCache<float>>;
  Ring ring(2, {.batch = 1, .window = 40, .spare = 20, .heads = heads});
  for (int i = 0; i < 15; ++i) append_to_all(ring, 0, 20);
  append_numbers(ring[1], 0, counting(300, 20));  // the layer holds 256 … 319, the other 192 … 299
  append_numbers(ring[1], 0, counting(320, 1));
  EXPECT_EQ(error_of<std::length_error>([&] { ring.truncate(0, 280); }),
            "RingKvCache::truncate: from 321 to 280 tokens is further than spare 20: tokens "
            "[0, 256) of sequence 0 are gone");
  EXPECT_EQ(ring[0].length(0), 300);
}

TEST(KvCacheStack, PrefixesServeLaterSequences) {
  auto stack = make_paged(20);
  append_to_all(stack, 0, 200);
  const auto prefix = stack.share_prefix(0, 150);
  stack.clear(0);
  stack.start_with(2, prefix);
  expect_counting(stack, 2, 150);
  EXPECT_EQ(error_of([&] {
              auto other = KvCacheStack<PagedKvCache<float>>(
                  1, stack[0].allocator(), {.capacity = 500, .page_tokens = 128, .heads = heads});
              other.start_with(0, prefix);
            }),
            "KvCacheStack::start_with: a prefix of 3 layers for 1");
  // In all layers or in none, also where the last layer's part doesn't fit.
  auto mixed = stack.share_prefix(2, 64);
  auto foreign = make_paged(20).share_prefix(0, 0);
  mixed.pop_back();
  mixed.push_back(std::move(foreign.back()));
  EXPECT_EQ(error_of([&] { stack.start_with(1, mixed); }),
            "PagedKvCache::start_with: the prefix lies in another allocator");
  EXPECT_EQ(stack.length(1), 0);
  EXPECT_EQ(stack[0].length(1), 0);
}

TEST(KvCacheStack, RefusesLayersThatAreNone) {
  using Stack = KvCacheStack<KvCache<float>>;
  EXPECT_EQ(error_of([] { Stack(0, {.heads = heads}); }),
            "KvCacheStack: num_layers must be positive, is 0");
  EXPECT_EQ(error_of([] { (void)Stack(2, {.heads = heads})[2]; }),
            "KvCacheStack: layer 2 is outside of 2 layers");
}

TEST(KvMemory, IsWhatAStackTakes) {
  const KvMemoryPlan plan = plan_kv_memory(
      {.num_layers = layers, .heads = heads, .dtype = Dtype::f32, .context = 100, .batch = 2});
  const KvCacheStack<KvCache<float>> stack(layers, {.batch = 2, .capacity = 100, .heads = heads});
  EXPECT_EQ(plan.gqa.bytes, stack.bytes());
  EXPECT_EQ(plan.gqa.bytes_per_token, stack.bytes_per_token());
  EXPECT_EQ(plan.gqa.num_kv_heads, 2);
  EXPECT_EQ(plan.mha.bytes, 2 * stack.bytes());
  EXPECT_EQ(plan.mqa.bytes * 2, stack.bytes());
  const auto expect_same = [&]<typename Storage>(Storage, Dtype dtype) {
    const KvMemoryPlan fewer = plan_kv_memory(
        {.num_layers = layers, .heads = heads, .dtype = dtype, .context = 100, .batch = 2});
    const KvCacheStack<KvCache<Storage>> quantised(layers,
                                                   {.batch = 2, .capacity = 100, .heads = heads});
    EXPECT_EQ(fewer.gqa.bytes, quantised.bytes());
    EXPECT_EQ(fewer.gqa.bytes_per_token, quantised.bytes_per_token());
  };
  expect_same(Int8{}, Dtype::int8);
  expect_same(Int4{}, Dtype::int4);
}

/// Llama 3 70B: 2 · 80 layers · 8 heads · 128 · 2 bytes are 320 KiB a token.
TEST(KvMemory, OfLlama3IsTheKnownNumber) {
  const KvMemoryPlan plan = plan_kv_memory(
      {.num_layers = 80, .heads = {64, 8, 128}, .dtype = Dtype::bf16, .context = 8192, .batch = 4});
  EXPECT_EQ(plan.gqa.bytes_per_token, 320 * 1024);
  EXPECT_EQ(plan.gqa.bytes, Index{10} << 30);
  EXPECT_EQ(plan.mha.bytes, Index{80} << 30);
  EXPECT_EQ(plan.mqa.bytes, (Index{10} << 30) / 8);
  EXPECT_EQ(plan.mha.num_kv_heads, 64);
  EXPECT_EQ(plan.mqa.num_kv_heads, 1);
}

TEST(KvMemory, RefusesWhatIsNoModel) {
  EXPECT_EQ(error_of([] { plan_kv_memory({}); }), "plan_kv_memory: heads are not set");
  EXPECT_EQ(error_of([] { plan_kv_memory({.heads = heads, .context = -1}); }),
            "plan_kv_memory: num_layers 1, context -1 and batch 1 must not be negative");
  EXPECT_EQ(
      error_of<std::length_error>([] {
        plan_kv_memory(
            {.num_layers = 80, .heads = {64, 64, 128}, .context = Index{1} << 40, .batch = 256});
      }),
      "plan_kv_memory: 80 x 64 x 256 x 17179869184 x 32768 bytes are more than 63 bits count");
}

}  // namespace
}  // namespace gqa::test
