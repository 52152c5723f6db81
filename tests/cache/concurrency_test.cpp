// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The rules for threads, each used to its limit: many readers at once, one writer per sequence,
// pages shared between sequences that different threads write. Run under TSan.
#include <gtest/gtest.h>

#include <thread>

#include "gqa/cache/contiguous.hpp"
#include "gqa/cache/paged.hpp"
#include "gqa/cache/ring.hpp"
#include "gqa/kernel/attend.hpp"
#include "tokens.hpp"

namespace gqa::test {
namespace {

constexpr Index threads = 4;
const Heads<> heads(2, 1, 8);

template <typename F>
void run_threads(F fn) {
  std::vector<std::thread> all;
  for (Index i = 0; i < threads; ++i) all.emplace_back([fn, i] { fn(i); });
  for (std::thread& thread : all) thread.join();
}

/// Every thread appends to, reads and rolls back a sequence of its own.
template <typename Cache>
void expect_writers_apart(Cache& cache) {
  std::vector<char> good(static_cast<std::size_t>(threads), 0);
  run_threads([&](Index b) {
    Random random(static_cast<std::uint64_t>(b + 1));
    bool all = true;
    for (int i = 0; i < 100; ++i) {
      const Index length = cache.length(b);
      append_numbers(cache, b, counting(length, random.integer(0, 10)));
      if (random.chance(0.3)) cache.truncate(b, length);
      const Index n = std::min<Index>(cache.length(b), 20);
      all &= read_numbers(cache, b, cache.length(b) - n, n) == counting(cache.length(b) - n, n);
    }
    good[static_cast<std::size_t>(b)] = all;
  });
  for (const char one : good) EXPECT_TRUE(one);
}

std::shared_ptr<PageAllocator> make_pages(Index count) {
  return std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = count, .page_bytes = PagedKvCache<float>::page_bytes(heads)});
}

TEST(CacheConcurrency, DifferentSequencesAreWrittenAtOnce) {
  KvCache<float> contiguous({.batch = threads, .capacity = 2000, .heads = heads});
  expect_writers_apart(contiguous);
  RingKvCache<float> ring({.batch = threads, .window = 20, .spare = 10, .heads = heads});
  expect_writers_apart(ring);
  PagedKvCache<float> paged(make_pages(200), {.batch = threads, .capacity = 2000, .heads = heads});
  expect_writers_apart(paged);
}

/// All threads fork the same prompt, write behind it, and begin again: pages change hands, and the
/// last page of the prompt is copied by all of them while others read it.
TEST(CacheConcurrency, ForksOfOnePromptAreWrittenAtOnce) {
  const auto pages = make_pages(40);
  PagedKvCache<float> cache(pages, {.batch = threads + 1, .capacity = 500, .heads = heads});
  append_numbers(cache, threads, counting(0, 100));
  std::vector<char> good(static_cast<std::size_t>(threads), 0);
  run_threads([&](Index b) {
    bool all = true;
    for (int i = 0; i < 100; ++i) {
      cache.fork(threads, b);
      append_numbers(cache, b, counting(1000 * b + i, 30));
      all &= read_numbers(cache, b, 0, 100) == counting(0, 100);
      all &= read_numbers(cache, b, 100, 30) == counting(1000 * b + i, 30);
      if (i % 3 == 0) cache.clear(b);
    }
    good[static_cast<std::size_t>(b)] = all;
  });
  for (const char one : good) EXPECT_TRUE(one);
  EXPECT_EQ(read_numbers(cache, threads), counting(0, 100));
  cache.clear();
  EXPECT_EQ(pages->statistics().free, 40);
}

/// Forks whose common page nobody else has: the last writer finds it its own, and writes it while
/// the copies of the others have only just been made.
TEST(CacheConcurrency, TheLastWriterOfASharedPageKeepsIt) {
  const auto pages = make_pages(2 * threads);
  PagedKvCache<float> cache(pages, {.batch = threads, .capacity = 500, .heads = heads});
  for (int round = 0; round < 30; ++round) {
    cache.clear();
    append_numbers(cache, 0, counting(0, 50));
    for (Index b = 1; b < threads; ++b) cache.fork(0, b);
    run_threads([&](Index b) { append_numbers(cache, b, counting(100 * b, 10)); });
    for (Index b = 0; b < threads; ++b) {
      ASSERT_EQ(read_numbers(cache, b, 0, 50), counting(0, 50));
      ASSERT_EQ(read_numbers(cache, b, 50, 10), counting(100 * b, 10));
    }
  }
}

/// When there are fewer pages than all want, some get none, and nobody is harmed.
TEST(CacheConcurrency, PagesRunOutUnderContention) {
  const auto pages = make_pages(5);
  PagedKvCache<float> cache(pages, {.batch = threads, .capacity = 500, .heads = heads});
  std::vector<char> good(static_cast<std::size_t>(threads), 1);
  run_threads([&](Index b) {
    for (int i = 0; i < 100; ++i) {
      const Index before = cache.length(b);
      try {
        append_numbers(cache, b, counting(before, 50));
      } catch (const std::length_error&) {
        good[static_cast<std::size_t>(b)] &= cache.length(b) == before;
        cache.clear(b);
        continue;
      }
      good[static_cast<std::size_t>(b)] &= read_numbers(cache, b) == counting(0, before + 50);
    }
  });
  for (const char one : good) EXPECT_TRUE(one);
  cache.clear();
  EXPECT_EQ(pages->statistics().free, 5);
}

TEST(CacheConcurrency, ReadersAttendWhileOtherSequencesAreWritten) {
  const auto pages = make_pages(100);
  PagedKvCache<float> cache(pages, {.batch = threads + 1, .capacity = 2000, .heads = heads});
  Random random(1);
  const auto k = random_tensor<float>(random, {1, 150, 1, 8});
  const auto v = random_tensor<float>(random, {1, 150, 1, 8});
  const auto q = random_tensor<float>(random, {1, 3, 2, 8});
  PagedKvCache<float> prompt(pages, {.capacity = 2000, .heads = heads});
  prompt.append(k.view(), v.view());
  const auto shared = prompt.share_prefix(0, 150);
  TestTensor<float> expected(q.shape());
  attend(q.view(), prompt, expected.view(), Causal{});
  std::vector<char> good(static_cast<std::size_t>(threads), 0);
  run_threads([&](Index i) {
    bool all = true;
    for (int n = 0; n < 10; ++n) {
      TestTensor<float> out(q.shape());
      attend(q.view(), prompt, out.view(), Causal{});
      all &= same_bits(out.storage(), expected.storage());
      cache.start_with(i, shared);
      append_numbers(cache, i, counting(0, 20));
      (void)pages->statistics();
    }
    good[static_cast<std::size_t>(i)] = all;
  });
  for (const char one : good) EXPECT_TRUE(one);
}

}  // namespace
}  // namespace gqa::test
