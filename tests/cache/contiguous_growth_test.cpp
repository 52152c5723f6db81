// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What KvCache does with whole sequences (fork, reorder, clone) and with memory that grows.
#include <gtest/gtest.h>

#include "cache_memory.hpp"
#include "support/errors.hpp"
#include "tokens.hpp"

namespace gqa::test {
namespace {

constexpr Index num_kv_heads = 2, head_dim = 5, value_dim = 3;

KvCache<float> make_cache(Index batch, Index capacity, Index max_capacity = 0) {
  return KvCache<float>({.batch = batch,
                         .capacity = capacity,
                         .heads = {4, num_kv_heads, head_dim, value_dim},
                         .max_capacity = max_capacity});
}

/// `count` tokens of the same number.
void append(KvCache<float>& cache, Index sequence, Index count, float number) {
  append_numbers(cache, sequence, std::vector<float>(static_cast<std::size_t>(count), number));
}

/// Four sequences of different lengths and contents.
KvCache<float> four_sequences() {
  KvCache<float> cache = make_cache(4, 200);
  append(cache, 0, 10, 1);
  append(cache, 1, 130, 2);
  append(cache, 2, 64, 3);
  append(cache, 3, 65, 4);
  return cache;
}

TEST(ContiguousReorder, GivesEachSequenceWhatItsIndexNames) {
  for (const std::vector<Index>& from : std::vector<std::vector<Index>>{
           {0, 1, 2, 3}, {3, 2, 1, 0}, {1, 2, 3, 0}, {1, 1, 1, 1}, {2, 2, 0, 0}, {3, 1, 3, 3}}) {
    KvCache<float> cache = four_sequences();
    std::vector<std::vector<float>> before;
    for (Index b = 0; b < 4; ++b) before.push_back(read_numbers(cache, b));
    cache.reorder(from);
    for (std::size_t b = 0; b < 4; ++b) {
      EXPECT_EQ(read_numbers(cache, static_cast<Index>(b)),
                before[static_cast<std::size_t>(from[b])]);
    }
    // Copies go ways of their own.
    append(cache, 0, 1, 9);
    for (std::size_t b = 1; b < 4; ++b) {
      EXPECT_EQ(read_numbers(cache, static_cast<Index>(b)),
                before[static_cast<std::size_t>(from[b])]);
    }
  }
}

TEST(ContiguousReorder, LeavesNothingOfLongerSequencesBehind) {
  KvCache<float> cache = four_sequences();
  cache.reorder(std::vector<Index>{0, 0, 0, 0});
  cache.truncate_all(0);
  const CacheMemory empty(make_cache(4, 200));
  EXPECT_TRUE(CacheMemory(cache) == empty);
}

TEST(ContiguousReorder, RefusesIndicesThatDoNotFit) {
  KvCache<float> cache = four_sequences();
  const CacheMemory before(cache);
  EXPECT_EQ(error_of([&] {
              cache.reorder(std::vector<Index>{0, 1, 2});
            }),
            "KvCache::reorder: 3 indices for a batch of 4");
  EXPECT_EQ(error_of([&] {
              cache.reorder(std::vector<Index>{1, 0, 4, 2});
            }),
            "KvCache::reorder: sequence 4 is outside of a batch of 4");
  EXPECT_TRUE(CacheMemory(cache) == before);
}

TEST(ContiguousFork, CopiesASequenceOverAnother) {
  KvCache<float> cache = four_sequences();
  cache.fork(0, 1);  // a shorter one over a longer one
  EXPECT_EQ(read_numbers(cache, 1), std::vector<float>(10, 1));
  cache.fork(3, 0);
  cache.fork(3, 3);
  EXPECT_EQ(read_numbers(cache, 0), std::vector<float>(65, 4));
  EXPECT_EQ(read_numbers(cache, 3), std::vector<float>(65, 4));
  cache.truncate_all(0);
  EXPECT_TRUE(CacheMemory(cache) == CacheMemory(make_cache(4, 200)));
  EXPECT_EQ(error_of([&] { cache.fork(0, 4); }),
            "KvCache::fork: sequence 4 is outside of a batch of 4");
}

TEST(ContiguousClone, IsEqualAndIndependent) {
  KvCache<float> cache = four_sequences();
  cache.reorder(std::vector<Index>{2, 0, 1, 1});
  KvCache<float> copy = cache.clone();
  for (Index b = 0; b < 4; ++b) EXPECT_EQ(read_numbers(copy, b), read_numbers(cache, b));
  copy.clear(0);
  append(copy, 1, 3, 7);
  EXPECT_EQ(read_numbers(cache, 0), std::vector<float>(64, 3));
  EXPECT_EQ(cache.length(1), 10);
  EXPECT_EQ(copy.length(1), 13);
}

TEST(ContiguousGrowth, DoublesUpToTheLimitAndKeepsEverything) {
  KvCache<float> cache = make_cache(2, 10, 1000), fixed = make_cache(2, 1000);
  EXPECT_EQ(cache.capacity(), 1000);
  EXPECT_EQ(cache.allocated(), 10);
  EXPECT_LT(cache.bytes() * 15, fixed.bytes());
  const auto both = [&](Index sequence, Index count, float number) {
    append(cache, sequence, count, number);
    append(fixed, sequence, count, number);
  };
  both(0, 10, 1);
  EXPECT_EQ(cache.allocated(), 10);
  both(1, 11, 2);
  EXPECT_EQ(cache.allocated(), 20);
  both(0, 100, 3);  // more than twice as many
  EXPECT_EQ(cache.allocated(), 110);
  both(1, 400, 4);
  EXPECT_EQ(cache.allocated(), 411);
  both(0, 500, 5);
  EXPECT_EQ(cache.allocated(), 822);
  both(0, 390, 6);
  EXPECT_EQ(cache.allocated(), 1000);
  EXPECT_EQ(cache.bytes(), fixed.bytes());
  EXPECT_TRUE(CacheMemory(cache) == CacheMemory(fixed));
  EXPECT_EQ(error_of<std::length_error>([&] { append(cache, 0, 1, 7); }),
            "KvCache::append: 1 tokens on top of 1000 exceed the capacity of 1000 (sequence 0)");
}

TEST(ContiguousGrowth, FromNothing) {
  KvCache<float> cache = make_cache(1, 0, 100);
  EXPECT_EQ(cache.bytes(), 0);
  append(cache, 0, 1, 1);
  EXPECT_EQ(cache.allocated(), 1);
  EXPECT_EQ(read_numbers(cache, 0), std::vector<float>{1});
}

TEST(ContiguousGrowth, ReserveGrowsBeforehand) {
  KvCache<float> cache = make_cache(2, 10, 1000);
  cache.reserve(1, 300);
  EXPECT_EQ(cache.allocated(), 300);
  cache.reserve(std::vector<Index>{0, 0});
  EXPECT_EQ(cache.allocated(), 300);
  EXPECT_EQ(error_of<std::length_error>([&] {
              cache.reserve(std::vector<Index>{1, 1001});
            }),
            "KvCache::reserve: 1001 tokens on top of 0 exceed the capacity of 1000 (sequence 1)");
  EXPECT_EQ(error_of([&] { cache.reserve(0, -1); }), "KvCache::reserve: a count of -1 is negative");
  EXPECT_EQ(cache.length(1), 0);
}

TEST(ContiguousGrowth, WithoutMemoryChangesNothing) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer ends the program where new would throw";
#endif
  constexpr Index too_many = Index{1} << 50;
  KvCache<float> cache = make_cache(1, 10, too_many);
  append(cache, 0, 10, 1);
  const CacheMemory before(cache);
  EXPECT_THROW(cache.reserve(0, too_many - 10), std::bad_alloc);
  EXPECT_EQ(cache.allocated(), 10);
  EXPECT_TRUE(CacheMemory(cache) == before);
  append(cache, 0, 70, 2);
  EXPECT_EQ(cache.length(0), 80);
}

TEST(ContiguousRead, GivesAnyStretchOfTokens) {
  KvCache<float> cache = make_cache(1, 100);
  append_numbers(cache, 0, counting(0, 70));
  EXPECT_EQ(read_numbers(cache, 0, 60, 8), counting(60, 8));
  EXPECT_EQ(read_numbers(cache, 0, 70, 0), std::vector<float>());
  TestTensor<float> k({1, 8, num_kv_heads, head_dim}), v({1, 8, num_kv_heads, value_dim});
  EXPECT_EQ(error_of([&] { cache.read(0, 63, k.view(), v.view()); }),
            "KvCache::read: tokens [63, 71) are outside of [0, 70) (sequence 0)");
  EXPECT_EQ(error_of([&] { cache.read(0, -1, k.view(), v.view()); }),
            "KvCache::read: tokens [-1, 7) are outside of [0, 70) (sequence 0)");
}

TEST(ContiguousLength, IsOfSequencesOfTheBatch) {
  const KvCache<float> cache = four_sequences();
  EXPECT_EQ(cache.length(3), 65);
  EXPECT_EQ(error_of([&] { (void)cache.length(4); }),
            "KvCache::length: sequence 4 is outside of a batch of 4");
  EXPECT_EQ(error_of([&] { (void)cache.length(-1); }),
            "KvCache::length: sequence -1 is outside of a batch of 4");
}

}  // namespace
}  // namespace gqa::test
