// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/cache/paged.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "gqa/cache/contiguous.hpp"
#include "gqa/kernel/attend.hpp"
#include "support/errors.hpp"
#include "tokens.hpp"

namespace gqa::test {
namespace {

using Paged = PagedKvCache<float>;

const Heads<> heads(2, 2, 4, 3);

std::shared_ptr<PageAllocator> make_pages(Index count, Index page_tokens = 64) {
  const auto pages = std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = count, .page_bytes = Paged::page_bytes(heads, page_tokens)});
  std::memset(pages->data(0), 0xff, static_cast<std::size_t>(count * pages->page_bytes()));  // NaN
  return pages;
}
Paged make_cache(const std::shared_ptr<PageAllocator>& pages, Index page_tokens = 64) {
  return Paged(pages, {.batch = 3, .capacity = 1000, .page_tokens = page_tokens, .heads = heads});
}
Index used(const std::shared_ptr<PageAllocator>& pages) { return pages->statistics().used; }

TEST(PageAllocator, CountsWhatBecomesOfPages) {
  PageAllocator pages({.pages = 5, .page_bytes = 128});
  const auto expect = [&](Index free, Index claimed, Index in_use, Index shared) {
    const PageStatistics s = pages.statistics();
    EXPECT_EQ(s.pages, 5);
    EXPECT_EQ(s.free, free);
    EXPECT_EQ(s.claimed, claimed);
    EXPECT_EQ(s.used, in_use);
    EXPECT_EQ(s.shared, shared);
  };
  expect(5, 0, 0, 0);
  PageAllocator::Page page;
  {
    PageClaim claim(pages, 3);
    expect(2, 3, 0, 0);
    page = claim.take();
    expect(2, 2, 1, 0);
    EXPECT_EQ(error_of<std::length_error>([&] { PageClaim more(pages, 3); }),
              "PageAllocator: 3 pages are needed, 2 of 5 are free");
  }
  expect(4, 0, 1, 0);
  pages.share(page);
  expect(4, 0, 1, 1);
  EXPECT_TRUE(pages.is_shared(page));
  pages.release(page);
  EXPECT_FALSE(pages.is_shared(page));
  expect(4, 0, 1, 0);
  pages.release(page);
  expect(5, 0, 0, 0);
}

TEST(PageAllocator, GivesEachPageOnceAndAligned) {
  PageAllocator pages({.pages = 4, .page_bytes = 192});
  PageClaim claim(pages, 4);
  std::vector<std::byte*> places;
  for (int i = 0; i < 4; ++i) places.push_back(pages.data(claim.take()));
  std::sort(places.begin(), places.end());
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(places[i]) % 64, 0u);
    EXPECT_EQ(places[i], places[0] + i * 192);
  }
}

TEST(PageAllocator, OptionsAreChecked) {
  const auto error = [](Index count, Index bytes) {
    return error_of([&] { PageAllocator({.pages = count, .page_bytes = bytes}); });
  };
  EXPECT_EQ(error(-1, 64), "PageAllocator: -1 pages are outside of [0, 2147483647]");
  EXPECT_EQ(error(1, 0), "PageAllocator: page_bytes must be a positive multiple of 64, is 0");
  EXPECT_EQ(error(1, 100), "PageAllocator: page_bytes must be a positive multiple of 64, is 100");
  EXPECT_EQ(error_of<std::length_error>(
                [] { PageAllocator({.pages = 1 << 30, .page_bytes = Index{1} << 40}); }),
            "PageAllocator: 1073741824 x 1099511627776 bytes are more than 63 bits count");
}

TEST(Paged, OptionsAreChecked) {
  const auto pages = make_pages(1);
  const auto error = [&](const Paged::Options& options) {
    return error_of([&] { Paged cache(pages, options); });
  };
  EXPECT_EQ(error({.capacity = -1, .heads = heads}),
            "PagedKvCache: capacity must not be negative, is -1");
  EXPECT_EQ(error({.page_tokens = 100, .heads = heads}),
            "PagedKvCache: page_tokens must be a positive multiple of 64, is 100");
  EXPECT_EQ(error({.page_tokens = 128, .heads = heads}),
            "PagedKvCache: a page takes 20480 bytes, the allocator's have 10240");
  EXPECT_EQ(error_of([&] { Paged cache(nullptr, {.heads = heads}); }),
            "PagedKvCache: the allocator is null");
}

TEST(Paged, TakesPagesAsSequencesGrowAndGivesThemBack) {
  const auto pages = make_pages(10);
  {
    Paged cache = make_cache(pages);
    EXPECT_EQ(cache.bytes(), 0);
    EXPECT_EQ(cache.fragmentation(), 0);
    append_numbers(cache, 1, counting(0, 64));
    EXPECT_EQ(used(pages), 1);
    append_numbers(cache, 1, counting(64, 1));
    EXPECT_EQ(used(pages), 2);
    append_numbers(cache, 2, counting(0, 31));
    EXPECT_EQ(cache.pages(), 3);
    EXPECT_EQ(cache.pages(1), 2);
    EXPECT_EQ(cache.bytes(), 3 * 2 * 64 * (4 + 16) * 4);
    EXPECT_DOUBLE_EQ(cache.fragmentation(), 0.5);
    cache.truncate(1, 64);
    EXPECT_EQ(used(pages), 2);
    cache.clear(2);
    EXPECT_EQ(used(pages), 1);
    EXPECT_EQ(read_numbers(cache, 1), counting(0, 64));
    append_numbers(cache, 2, counting(0, 200));
  }
  EXPECT_EQ(used(pages), 0);
  EXPECT_EQ(pages->statistics().free, 10);
}

TEST(Paged, ForkCostsNothingUntilOneSideWrites) {
  const auto pages = make_pages(10, 128);
  Paged cache = make_cache(pages, 128);
  append_numbers(cache, 0, counting(0, 300));
  EXPECT_EQ(used(pages), 3);
  cache.fork(0, 1);
  cache.fork(1, 2);
  EXPECT_EQ(used(pages), 3);
  EXPECT_EQ(pages->statistics().shared, 3);
  append_numbers(cache, 1, counting(1000, 5));  // one copy
  EXPECT_EQ(used(pages), 4);
  append_numbers(cache, 1, counting(1005, 5));  // and no other
  EXPECT_EQ(used(pages), 4);
  append_numbers(cache, 0, counting(2000, 1));
  EXPECT_EQ(used(pages), 5);
  append_numbers(cache, 2, counting(3000, 1));  // nobody else has that page any more
  EXPECT_EQ(used(pages), 5);
  EXPECT_EQ(pages->statistics().shared, 2);
  for (const auto& [b, first, count] :
       {std::tuple<Index, Index, Index>{0, 2000, 1}, {1, 1000, 10}, {2, 3000, 1}}) {
    EXPECT_EQ(read_numbers(cache, b, 0, 300), counting(0, 300));
    EXPECT_EQ(read_numbers(cache, b, 300, count), counting(first, count));
  }
}

TEST(Paged, TruncateWithinASharedPageCopiesIt) {
  const auto pages = make_pages(4, 128);
  Paged cache = make_cache(pages, 128);
  append_numbers(cache, 0, counting(0, 200));
  cache.fork(0, 1);
  cache.truncate(1, 192);  // between two blocks: nothing is written
  EXPECT_EQ(used(pages), 2);
  cache.truncate(1, 150);
  EXPECT_EQ(used(pages), 3);
  EXPECT_EQ(read_numbers(cache, 0), counting(0, 200));
  EXPECT_EQ(read_numbers(cache, 1), counting(0, 150));
  append_numbers(cache, 1, counting(500, 100));
  EXPECT_EQ(read_numbers(cache, 0), counting(0, 200));
  EXPECT_EQ(read_numbers(cache, 1, 150, 100), counting(500, 100));
}

TEST(Paged, RunningOutOfPagesLeavesEverySequenceAsItWas) {
  for (Index spare = 0; spare <= 6; ++spare) {
    const auto pages = make_pages(5 + spare);
    Paged cache = make_cache(pages);
    append_numbers(cache, 0, counting(0, 100));
    append_numbers(cache, 1, counting(0, 130));
    cache.fork(0, 2);  // shares two pages, the last of which a write copies
    EXPECT_EQ(used(pages), 5);
    TestTensor<float> k({3, 70, 2, 4}), v({3, 70, 2, 3});
    // Sequences 0 and 2: a page each, and a copy for one of them. Sequence 1: one page.
    const bool enough = spare >= 4;
    if (enough) {
      cache.append(k.view(), v.view());
      EXPECT_EQ(cache.length(2), 170);
      EXPECT_EQ(used(pages), 9);  // the second writer found its page its own
    } else {
      EXPECT_EQ(
          error_of<std::length_error>([&] { cache.append(k.view(), v.view()); }),
          message("PageAllocator: 4 pages are needed, ", spare, " of ", 5 + spare, " are free"));
      EXPECT_EQ(read_numbers(cache, 0), counting(0, 100));
      EXPECT_EQ(read_numbers(cache, 1), counting(0, 130));
      EXPECT_EQ(read_numbers(cache, 2), counting(0, 100));
      EXPECT_EQ(used(pages), 5);
      EXPECT_EQ(pages->statistics().free, spare);
      append_numbers(cache, 1, counting(130, 62));  // to the end of its page
      EXPECT_EQ(read_numbers(cache, 1), counting(0, 192));
    }
  }
}

TEST(Paged, EverythingElseThatTakesAPageFailsAsCleanly) {
  const auto pages = make_pages(1);
  Paged cache = make_cache(pages);
  append_numbers(cache, 0, counting(0, 50));
  cache.fork(0, 1);
  const char* const none = "PageAllocator: 1 pages are needed, 0 of 1 are free";
  EXPECT_EQ(error_of<std::length_error>([&] { cache.truncate(0, 20); }), none);
  EXPECT_EQ(error_of<std::length_error>([&] { append_numbers(cache, 0, counting(0, 1)); }), none);
  EXPECT_EQ(error_of<std::length_error>([&] { cache.reserve(0, 1); }), none);
  EXPECT_EQ(error_of<std::length_error>([&] { (void)cache.share_prefix(0, 20); }), none);
  EXPECT_EQ(read_numbers(cache, 0), counting(0, 50));
  EXPECT_EQ(read_numbers(cache, 1), counting(0, 50));
  cache.clear(1);
  cache.truncate(0, 20);
  EXPECT_EQ(read_numbers(cache, 0), counting(0, 20));
}

TEST(Paged, CapacityIsALimitOfItsOwn) {
  const auto pages = make_pages(100);
  Paged cache(pages, {.capacity = 70, .heads = heads});
  append_numbers(cache, 0, counting(0, 70));
  EXPECT_EQ(error_of<std::length_error>([&] { append_numbers(cache, 0, counting(0, 1)); }),
            "PagedKvCache::append: 1 tokens on top of 70 exceed the capacity of 70 (sequence 0)");
}

TEST(Paged, ReservedPagesAreUsedThenGivenBack) {
  const auto pages = make_pages(4);
  Paged cache = make_cache(pages), other = make_cache(pages);
  cache.reserve(0, 200);
  EXPECT_EQ(used(pages), 4);
  append_numbers(cache, 0, counting(0, 100));
  EXPECT_EQ(used(pages), 4);
  EXPECT_EQ(error_of<std::length_error>([&] { append_numbers(other, 0, counting(0, 1)); }),
            "PageAllocator: 1 pages are needed, 0 of 4 are free");
  cache.truncate(0, 100);
  EXPECT_EQ(used(pages), 2);
  append_numbers(other, 0, counting(0, 1));
  EXPECT_EQ(read_numbers(cache, 0), counting(0, 100));
}

TEST(PagedPrefix, OutlivesTheSequenceAndServesOthers) {
  const auto pages = make_pages(20);
  Paged cache = make_cache(pages);
  append_numbers(cache, 0, counting(0, 150));
  std::optional<Paged::Prefix> whole(cache.share_prefix(0, 150));
  std::optional<Paged::Prefix> part(cache.share_prefix(0, 70));  // its last page is a copy
  std::optional<Paged::Prefix> blocks(cache.share_prefix(0, 128));
  EXPECT_EQ(used(pages), 4);
  EXPECT_EQ(part->length(), 70);
  append_numbers(cache, 0, counting(1000, 1));  // copies the page that `whole` ends in
  EXPECT_EQ(used(pages), 5);
  cache.clear(0);
  EXPECT_EQ(used(pages), 4);
  cache.start_with(1, *whole);
  cache.start_with(2, *part);
  EXPECT_EQ(used(pages), 4);
  append_numbers(cache, 1, counting(150, 10));
  append_numbers(cache, 2, counting(70, 10));
  EXPECT_EQ(read_numbers(cache, 1), counting(0, 160));
  EXPECT_EQ(read_numbers(cache, 2), counting(0, 80));
  cache.start_with(2, *blocks);  // over what it held
  EXPECT_EQ(read_numbers(cache, 2), counting(0, 128));
  cache.start_with(0, *whole);
  EXPECT_EQ(read_numbers(cache, 0), counting(0, 150));
  whole.reset();
  part.reset();
  blocks.reset();
  EXPECT_EQ(read_numbers(cache, 0), counting(0, 150));
  cache.clear();
  EXPECT_EQ(used(pages), 0);
}

TEST(PagedPrefix, OfAnotherCacheMustFit) {
  const auto pages = make_pages(20, 128);
  Paged cache = make_cache(pages, 128);
  append_numbers(cache, 0, counting(0, 100));
  const auto prefix = cache.share_prefix(0, 100);
  const auto error = [&](const std::shared_ptr<PageAllocator>& from,
                         const Paged::Options& options) {
    Paged other(from, options);
    return error_of([&] { other.start_with(0, prefix); });
  };
  EXPECT_EQ(error(pages, {.capacity = 200, .heads = heads}),
            "PagedKvCache::start_with: page_tokens is 64, the prefix's is 128");
  EXPECT_EQ(error(pages, {.capacity = 200, .heads = Heads<>(2, 1, 4, 3)}),
            "PagedKvCache::start_with: num_kv_heads is 1, the prefix's is 2");
  EXPECT_EQ(error(make_pages(1), {.capacity = 200, .heads = heads}),
            "PagedKvCache::start_with: the prefix lies in another allocator");
  Paged small(pages, {.capacity = 99, .page_tokens = 128, .heads = heads});
  EXPECT_EQ(error_of<std::length_error>([&] { small.start_with(0, prefix); }),
            "PagedKvCache::start_with: a prefix of 100 tokens exceeds the capacity of 99");
  EXPECT_EQ(error_of([&] { (void)cache.share_prefix(0, 101); }),
            "PagedKvCache::share_prefix: length 101 is outside of [0, 100] (sequence 0)");
  EXPECT_EQ(error_of([&] { cache.start_with(3, prefix); }),
            "PagedKvCache::start_with: sequence 3 is outside of a batch of 3");
}

TEST(Paged, ClonesAndMovesCountTheirReferences) {
  const auto pages = make_pages(10);
  Paged cache = make_cache(pages);
  append_numbers(cache, 0, counting(0, 100));
  {
    Paged copy = cache.clone();
    EXPECT_EQ(used(pages), 2);
    append_numbers(copy, 0, counting(100, 1));
    EXPECT_EQ(used(pages), 3);
    Paged moved(std::move(copy));
    EXPECT_EQ(read_numbers(moved, 0), counting(0, 101));
    Paged assigned = make_cache(pages);
    append_numbers(assigned, 1, counting(0, 1));
    EXPECT_EQ(used(pages), 4);
    assigned = std::move(moved);
    EXPECT_EQ(read_numbers(assigned, 0), counting(0, 101));
  }
  EXPECT_EQ(used(pages), 2);
  EXPECT_EQ(read_numbers(cache, 0), counting(0, 100));
}

TEST(Paged, LayersOfOtherShapesShareAnAllocator) {
  const auto pages = make_pages(4);
  Paged wide = make_cache(pages);
  PagedKvCache<bfloat16, Gqa<4, 1, 8>> narrow(pages, {.capacity = 100});
  EXPECT_LT(narrow.page_bytes(), pages->page_bytes());
  append_numbers(wide, 0, counting(0, 64));
  append_numbers(narrow, 0, counting(0, 65));
  append_numbers(wide, 0, counting(64, 64));
  EXPECT_EQ(used(pages), 4);
  EXPECT_EQ(read_numbers(wide, 0), counting(0, 128));
  EXPECT_EQ(read_numbers(narrow, 0), counting(0, 65));
}

/// A static head configuration, straight into attend().
TEST(Paged, AttendsWithoutAnIntermediary) {
  using Static = PagedKvCache<float, Gqa<2, 1, 4>>;
  const auto pages = std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = 10, .page_bytes = Static::page_bytes(Gqa<2, 1, 4>())});
  Static paged(pages, {.capacity = 500});
  KvCache<float, Gqa<2, 1, 4>> cache({.capacity = 500});
  Random random(2);
  for (int i = 0; i < 100; ++i) {
    const auto k = random_tensor<float>(random, {1, 4, 1, 4});
    const auto v = random_tensor<float>(random, {1, 4, 1, 4});
    paged.append(k.view(), v.view());
    cache.append(k.view(), v.view());
  }
  const auto q = random_tensor<float>(random, {1, 4, 2, 4});
  TestTensor<float> out(q.shape()), expected(q.shape());
  attend(q.view(), paged, out.view(), Causal{});
  attend(q.view(), cache, expected.view(), Causal{});
  EXPECT_TRUE(same_bits(out.storage(), expected.storage()));
}

}  // namespace
}  // namespace gqa::test
