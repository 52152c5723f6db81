// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Each allocation of each operation fails once: std::bad_alloc comes out, nothing has changed, and
// the same operation works afterwards. And those operations that promise to allocate nothing don't.
#include <gtest/gtest.h>

#include <new>
#include <optional>

#include "failing_new.hpp"
#include "gqa/cache/contiguous.hpp"
#include "gqa/cache/paged.hpp"
#include "gqa/cache/ring.hpp"
#include "gqa/cache/transaction.hpp"
#include "tokens.hpp"

namespace gqa::test {
namespace {

const Heads<> heads(2, 1, 4);

/// Runs `operation` again and again, its first allocation failing, then its second, … until it
/// succeeds; `check` follows each failure. Returns how many allocations there are.
template <typename Operation, typename Check>
long fail_each_allocation(Operation operation, Check check) {
  for (long n = 0;; ++n) {
    fail_allocation(n);
    bool failed = false;
    try {
      operation();
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    fail_allocation(-1);
    if (!failed) return n;
    check();
  }
}
template <typename Operation>
long allocations_of(Operation operation) {
  const long before = allocations();
  operation();
  return allocations() - before;
}

std::shared_ptr<PageAllocator> make_pages(Index count) {
  return std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = count, .page_bytes = PagedKvCache<float>::page_bytes(heads)});
}

TEST(OutOfMemory, ConstructionThrows) {
  const auto nothing = [] {};
  EXPECT_GT(fail_each_allocation([] { KvCache<float>({.capacity = 9, .heads = heads}); }, nothing),
            1);
  EXPECT_GT(
      fail_each_allocation([] { RingKvCache<float>({.window = 9, .heads = heads}); }, nothing), 1);
  EXPECT_GT(fail_each_allocation([] { make_pages(3); }, nothing), 1);
  const auto pages = make_pages(3);
  EXPECT_GT(fail_each_allocation(
                [&] { PagedKvCache<float>(pages, {.batch = 3, .capacity = 99, .heads = heads}); },
                nothing),
            3);
  EXPECT_EQ(pages.use_count(), 1);
}

TEST(OutOfMemory, GrowthChangesNothing) {
  KvCache<float> cache({.batch = 2, .capacity = 70, .heads = heads, .max_capacity = 1000});
  append_numbers(cache, 0, counting(0, 70));
  append_numbers(cache, 1, counting(100, 65));
  const TestTensor<float> one({2, 6, 1, 4});
  EXPECT_GT(fail_each_allocation([&] { cache.append(one.view(), one.view()); },
                                 [&] {
                                   EXPECT_EQ(cache.allocated(), 70);
                                   EXPECT_EQ(read_numbers(cache, 0), counting(0, 70));
                                   EXPECT_EQ(read_numbers(cache, 1), counting(100, 65));
                                 }),
            0);
  EXPECT_EQ(cache.length(0), 76);
  EXPECT_EQ(cache.allocated(), 140);
  EXPECT_EQ(read_numbers(cache, 1, 0, 65), counting(100, 65));
}

template <typename Cache>
void expect_clones_fail_cleanly(const Cache& cache) {
  std::optional<Cache> copy;
  EXPECT_GT(fail_each_allocation([&] { copy.emplace(cache.clone()); },
                                 [&] { EXPECT_EQ(read_numbers(cache, 0), counting(0, 70)); }),
            1);
  EXPECT_EQ(read_numbers(*copy, 0), counting(0, 70));
}

TEST(OutOfMemory, CloneChangesNothing) {
  KvCache<float> contiguous({.capacity = 70, .heads = heads});
  append_numbers(contiguous, 0, counting(0, 70));
  expect_clones_fail_cleanly(contiguous);
  RingKvCache<float> ring({.window = 30, .spare = 70, .heads = heads});
  append_numbers(ring, 0, counting(0, 70));
  expect_clones_fail_cleanly(ring);
  const auto pages = make_pages(3);
  PagedKvCache<float> paged(pages, {.capacity = 70, .heads = heads});
  append_numbers(paged, 0, counting(0, 70));
  expect_clones_fail_cleanly(paged);
  EXPECT_EQ(pages->statistics().used, 2);
  EXPECT_EQ(pages->statistics().shared, 0);
}

TEST(OutOfMemory, PrefixChangesNothing) {
  const auto pages = make_pages(3);
  PagedKvCache<float> cache(pages, {.capacity = 100, .heads = heads});
  append_numbers(cache, 0, counting(0, 70));
  EXPECT_GT(fail_each_allocation([&] { (void)cache.share_prefix(0, 20); },
                                 [&] {
                                   EXPECT_EQ(pages->statistics().free, 1);
                                   EXPECT_EQ(pages->statistics().shared, 0);
                                 }),
            0);
  EXPECT_EQ(pages->statistics().free, 1);
}

TEST(OutOfMemory, PlanOfATransactionChangesNothing) {
  const auto pages = make_pages(6);
  PagedKvCache<float> paged(pages, {.batch = 2, .capacity = 300, .heads = heads});
  KvCache<float> growing({.batch = 2, .capacity = 1, .heads = heads, .max_capacity = 300});
  const std::vector<Index> counts{70, 70};
  AppendTransaction step;
  EXPECT_GT(fail_each_allocation([&] { step.plan(paged, counts); },
                                 [&] { EXPECT_EQ(pages->statistics().free, 6); }),
            0);
  EXPECT_GT(fail_each_allocation([&] { step.plan(growing, counts); },
                                 [&] { EXPECT_EQ(growing.allocated(), 1); }),
            1);
  step.roll_back();
  EXPECT_EQ(pages->statistics().free, 6);
  // The second step finds all memory there.
  EXPECT_EQ(allocations_of([&] {
              step.plan(paged, counts);
              step.plan(growing, counts);
              step.commit();
            }),
            0);
}

TEST(NoAllocation, InWhatHappensToSequences) {
  const auto pages = make_pages(20);
  PagedKvCache<float> paged(pages, {.batch = 2, .capacity = 300, .heads = heads});
  RingKvCache<float> ring({.batch = 2, .window = 30, .spare = 70, .heads = heads});
  KvCache<float> contiguous({.batch = 2, .capacity = 300, .heads = heads});
  const TestTensor<float> kv({2, 70, 1, 4});
  const TestTensor<float> one({1, 70, 1, 4});
  const std::vector<Index> counts{3, 70}, beams{1, 1};
  const auto use = [&](auto& cache) {
    cache.append(kv.view(), kv.view(), counts);
    cache.append(0, one.view(), one.view());
    cache.reorder(beams);
    cache.append(0, one.view(), one.view());
    cache.truncate(0, cache.length(0) - 1);
    cache.fork(0, 1);
    cache.append(kv.view(), kv.view());
    cache.clear();
  };
  EXPECT_EQ(allocations_of([&] { use(paged); }), 0);
  EXPECT_EQ(allocations_of([&] { use(ring); }), 0);
  EXPECT_EQ(allocations_of([&] { use(contiguous); }), 0);
}

}  // namespace
}  // namespace gqa::test
