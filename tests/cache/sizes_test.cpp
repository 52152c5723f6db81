// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Caches of absurd sizes: given by a user or by a file, refused before anything is multiplied to
// something small.
#include <gtest/gtest.h>

#include <sstream>

#include "gqa/cache/contiguous.hpp"
#include "gqa/cache/kv_cache_stack.hpp"
#include "gqa/cache/kv_memory.hpp"
#include "gqa/cache/paged.hpp"
#include "gqa/cache/ring.hpp"
#include "gqa/cache/serialize.hpp"
#include "gqa/cache/storage_error.hpp"
#include "gqa/kernel/attend.hpp"
#include "support/errors.hpp"
#include "tokens.hpp"

namespace gqa::test {
namespace {

constexpr Index most = std::numeric_limits<Index>::max();
const Heads<> heads(2, 1, 4);

TEST(GrowingCache, RefusesRoomThatNoMemoryHas) {
  KvCache<float> cache({.batch = 2, .capacity = 64, .heads = heads, .max_capacity = most});
  append_numbers(cache, 0, counting(0, 40));
  const Index bytes = cache.bytes();
  EXPECT_EQ(error_of<std::length_error>([&] { cache.reserve(0, Index{1} << 56); }),
            "KvCache: 2 x 1 x 1125899906842625 x 5120 bytes are more than 63 bits count");
  EXPECT_NE(error_of<std::length_error>([&] { cache.reserve(1, most); }), "no exception");
  EXPECT_NE(error_of<std::length_error>([&] { cache.reserve(0, most - 40); }), "no exception");
  EXPECT_NE(error_of<std::length_error>([&] {
              cache.reserve(std::vector<Index>{1, Index{1} << 60});
            }),
            "no exception");
  EXPECT_EQ(cache.allocated(), 64);
  EXPECT_EQ(cache.bytes(), bytes);
  append_numbers(cache, 0, counting(40, 100));
  EXPECT_EQ(read_numbers(cache, 0), counting(0, 140));
}

/// What no memory has room for, of any cache: 2^51 to 2^63 - 1 numbers a row.
TEST(Caches, OfRowsWiderThanMemoryAreRefused) {
  for (const Index dim : {Index{1} << 53, Index{1} << 56, Index{1} << 57, Index{1} << 60, most}) {
    for (const Heads<>& wide : {Heads<>(1, 1, dim), Heads<>(1, 1, 4, dim)}) {
      const auto refused = [](auto make) {
        return error_of<std::length_error>(make) != "no exception";
      };
      EXPECT_TRUE(refused([&] { KvCache<float>({.capacity = 0, .heads = wide}); }));
      EXPECT_TRUE(refused([&] { KvCache<Int4>({.capacity = 1, .heads = wide}); }));
      EXPECT_TRUE(refused([&] { RingKvCache<Int8>({.window = 1, .heads = wide}); }));
      EXPECT_TRUE(refused([&] { (void)PagedKvCache<bfloat16>::page_bytes(wide); }));
      EXPECT_TRUE(refused(
          [&] { (void)plan_kv_memory({.heads = wide, .dtype = Dtype::int4, .context = 1}); }));
    }
  }
}

TEST(PagedCache, NeedsPageTokensThatAreBlocks) {
  const auto error = [](Index page_tokens) {
    return error_of([&] { (void)PagedKvCache<float>::page_bytes(heads, page_tokens); });
  };
  EXPECT_EQ(error(-64),
            "PagedKvCache::page_bytes: page_tokens must be a positive multiple of 64, is -64");
  EXPECT_EQ(error(0),
            "PagedKvCache::page_bytes: page_tokens must be a positive multiple of 64, is 0");
  EXPECT_EQ(error(100),
            "PagedKvCache::page_bytes: page_tokens must be a positive multiple of 64, is 100");
  EXPECT_EQ(error_of<std::length_error>(
                [] { (void)PagedKvCache<float>::page_bytes(heads, most / 64 * 64); }),
            "PagedKvCache::page_bytes: 1 x 144115188075855871 x 5120 bytes are more than 63 bits "
            "count");
}

TEST(PagedCache, MayHaveNoCapacityButItsPages) {
  const auto pages = std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = 3, .page_bytes = PagedKvCache<float>::page_bytes(heads)});
  PagedKvCache<float> cache(pages, {.batch = 64, .capacity = most, .heads = heads});
  append_numbers(cache, 0, counting(0, 150));
  EXPECT_EQ(error_of<std::length_error>([&] { append_numbers(cache, 1, {1}); }),
            "PageAllocator: 1 pages are needed, 0 of 3 are free");
  EXPECT_EQ(error_of<std::length_error>([&] { cache.reserve(0, most - 150); }),
            "PageAllocator: 144115188075855869 pages are needed, 0 of 3 are free");
  // 64 times 2^57 pages are none in 64 bits.
  std::vector<Index> counts(64, most);
  counts[0] = 0;
  EXPECT_NE(error_of<std::length_error>([&] { cache.reserve(counts); }), "no exception");
  EXPECT_EQ(read_numbers(cache, 0), counting(0, 150));
}

TEST(MemoryPlan, CountsOrThrows) {
  EXPECT_NE(error_of<std::length_error>([] {
              (void)plan_kv_memory({.num_layers = most, .heads = heads, .context = most});
            }),
            "no exception");
  // The layers' sizes times the tokens' would not be counted, but there are no tokens.
  const KvMemoryPlan plan = plan_kv_memory(
      {.num_layers = Index{1} << 40, .heads = heads, .context = 0, .batch = Index{1} << 40});
  EXPECT_EQ(plan.gqa.bytes, 0);
  EXPECT_EQ(plan.gqa.bytes_per_token, (Index{1} << 40) * 8 * 2);
}

TEST(Caches, SayWhereARangeOfTokensEndsBeyondAnIndex) {
  KvCache<float> cache({.capacity = 10, .heads = heads});
  TestTensor<float> one({1, 1, 1, 4});
  EXPECT_EQ(error_of([&] { cache.read(0, most, one.view(), one.view()); }),
            "KvCache::read: tokens [9223372036854775807, 9223372036854775807) are outside of [0, "
            "0) (sequence 0)");
}

/// Keys of 2^62 tokens that are all the same one.
TEST(StorageError, OfMoreNumbersThanMemoryHasIsRefused) {
  KvCache<float> cache({.capacity = 10, .heads = heads});
  float row[4] = {};
  const TensorView<const float> rows(row, {1, Index{1} << 62, 1, 4}, {});
  EXPECT_NE(error_of<std::length_error>([&] { (void)storage_error(cache, 0, 0, rows, rows); }),
            "no exception");
}

/// A file of a ring that has seen `length` tokens and forgot all but those from `kept` on.
std::string file_of_a_ring(Index length, Index kept) {
  std::ostringstream out;
  const std::string name = "x";
  detail::CheckedWriter writer(out, name);
  writer.bytes(detail::saved_cache_magic, 8);
  writer.number(detail::saved_cache_version);
  writer.number(detail::saved_storage<float>());
  for (const Index n : {Index{1}, Index{1}, Index{4}, Index{4}}) writer.index(n);
  writer.checksum();
  for (const Index n : {length, Index{0}, kept}) writer.index(n);
  writer.checksum();
  for (Index t = kept; t < length; ++t) {
    for (int i = 0; i < 4; ++i) writer.number(static_cast<float>(t - kept));
    for (int i = 0; i < 4; ++i) writer.number(-static_cast<float>(t - kept));
    if (t % 64 == 63 || t == length - 1) writer.checksum();
  }
  return out.str();
}

TEST(RingFromAFile, GoesOnToTheLastTokensThatAreNumbered) {
  const Index end = most / 2 / 64 * 64, length = end - 30, kept = end - 256;
  RingKvCache<float> ring({.window = 50, .spare = 64, .heads = heads});
  std::istringstream in(file_of_a_ring(length, kept));
  load(ring, in);
  ASSERT_EQ(ring.length(0), length);
  EXPECT_EQ(read_numbers(ring, 0, length - 60, 60), counting(length - 60 - kept, 60));
  EXPECT_FALSE(ring.can_undo(0, most));
  EXPECT_FALSE(ring.can_undo(0, -1));
  EXPECT_TRUE(ring.can_undo(0, 30));
  append_numbers(ring, 0, counting(length - kept, 30));
  EXPECT_EQ(error_of<std::length_error>([&] { append_numbers(ring, 0, {1}); }),
            "RingKvCache::append: 1 tokens on top of 4611686018427387840 exceed the capacity of "
            "4611686018427387840 (sequence 0)");
  EXPECT_EQ(read_numbers(ring, 0, end - 60, 60), counting(end - 60 - kept, 60));
  // Attention over what is there, as over a cache that begins there.
  KvCache<float> cache({.capacity = 256, .heads = heads});
  append_numbers(cache, 0, counting(0, 256));
  Random random(1);
  const auto q = random_tensor<float>(random, {1, 3, 2, 4});
  TestTensor<float> out(q.shape()), expected(q.shape());
  const auto rules = Causal{} & SlidingWindow::from_hf(50);
  attend(q.view(), ring, out.view(), rules);
  attend(q.view(), cache, expected.view(), rules);
  EXPECT_TRUE(same_bits(out.storage(), expected.storage()));
  std::ostringstream again;
  save(ring, again);
  ring.truncate(0, length);
  EXPECT_EQ(read_numbers(ring, 0, length - 10, 10), counting(length - 10 - kept, 10));
}

TEST(RingFromAFile, OfMoreTokensThanAnIndexCountsIsRefused) {
  RingKvCache<float> ring({.window = 50, .spare = 64, .heads = heads});
  const std::string beyond = file_of_a_ring(most - 100, most / 64 * 64 - 256);
  std::istringstream in_beyond(beyond);
  EXPECT_EQ(error_of<std::length_error>([&] { load(ring, in_beyond); }),
            "RingKvCache::load: 1 tokens on top of 9223372036854775488 exceed the capacity of "
            "4611686018427387840 (sequence 0)");
  const std::string file = file_of_a_ring(100, 0);
  // 2^63 tokens: the length's highest byte, and the checksum that goes with it.
  std::ostringstream out;
  const std::string name = "x";
  detail::CheckedWriter writer(out, name);
  writer.bytes(file.data(), 48);
  writer.checksum();
  writer.number(std::uint64_t{1} << 63);
  writer.number(std::uint64_t{0});
  writer.number(std::uint64_t{1} << 63);
  writer.checksum();
  std::istringstream in(out.str());
  EXPECT_EQ(error_of<std::runtime_error>([&] { load(ring, in, "a file"); }),
            "a file: byte 52: a sequence can't have 9223372036854775808 tokens");
}

}  // namespace
}  // namespace gqa::test
