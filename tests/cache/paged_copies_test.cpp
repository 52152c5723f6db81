// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// How many pages are copied where several sequences that share one write at once: one less than
// there are, unless somebody else has the page, too.
#include <gtest/gtest.h>

#include <optional>

#include "gqa/cache/kv_cache_stack.hpp"
#include "gqa/cache/paged.hpp"
#include "gqa/cache/selection.hpp"
#include "support/errors.hpp"
#include "support/random.hpp"
#include "tokens.hpp"

namespace gqa::test {
namespace {

const Heads<> heads(2, 1, 4);
using Paged = PagedKvCache<float>;

std::shared_ptr<PageAllocator> make_pages(Index count, Index page_tokens = 64) {
  return std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = count, .page_bytes = Paged::page_bytes(heads, page_tokens)});
}
/// One token for each sequence, numbered 100 + sequence.
template <typename Cache>
void append_one_each(Cache& cache, std::span<const Index> counts = {}) {
  TestTensor<float> k({cache.batch(), 1, 1, 4}), v(k.shape());
  for (Index b = 0; b < cache.batch(); ++b) {
    k.fill_row(b, 0, 0, static_cast<float>(100 + b));
    v.fill_row(b, 0, 0, -static_cast<float>(100 + b));
  }
  cache.append(k.view(), v.view(), counts);
}
std::vector<float> counting_then(Index count, float last) {
  auto numbers = counting(0, count);
  numbers.push_back(last);
  return numbers;
}

TEST(SharedPage, OfTwoForksIsCopiedOnceByABatch) {
  const auto pages = make_pages(2);
  Paged cache(pages, {.batch = 2, .capacity = 200, .heads = heads});
  append_numbers(cache, 0, counting(0, 50));
  cache.fork(0, 1);
  append_one_each(cache);
  EXPECT_EQ(pages->statistics().used, 2);
  EXPECT_EQ(pages->statistics().claimed, 0);
  EXPECT_EQ(read_numbers(cache, 0), counting_then(50, 100));
  EXPECT_EQ(read_numbers(cache, 1), counting_then(50, 101));
}

TEST(SharedPage, OfTwoForksIsCopiedOnceByReserveAndByTransactions) {
  for (const bool planned : {false, true}) {
    const auto pages = make_pages(2);
    Paged cache(pages, {.batch = 2, .capacity = 200, .heads = heads});
    append_numbers(cache, 0, counting(0, 50));
    cache.fork(0, 1);
    const std::vector<Index> counts{14, 3};
    AppendTransaction step;
    planned ? step.plan(cache, counts) : cache.reserve(counts);
    EXPECT_EQ(pages->statistics().free, 0);
    append_one_each(cache);
    step.commit();
    EXPECT_EQ(read_numbers(cache, 0), counting_then(50, 100));
    EXPECT_EQ(read_numbers(cache, 1), counting_then(50, 101));
  }
}

TEST(SharedPage, OfTwoForksIsCopiedOnceByTruncateAll) {
  const auto pages = make_pages(2);
  Paged cache(pages, {.batch = 2, .capacity = 200, .heads = heads});
  append_numbers(cache, 0, counting(0, 50));
  cache.fork(0, 1);
  cache.truncate_all(20);
  EXPECT_EQ(pages->statistics().used, 2);
  append_one_each(cache);
  EXPECT_EQ(read_numbers(cache, 0), counting_then(20, 100));
  EXPECT_EQ(read_numbers(cache, 1), counting_then(20, 101));
}

TEST(SharedPage, OfAStackIsCopiedOnceByEachLayer) {
  const auto pages = make_pages(4);
  KvCacheStack<Paged> stack(2, pages, {.batch = 2, .capacity = 200, .heads = heads});
  for (auto& layer : stack) append_numbers(layer, 0, counting(0, 50));
  stack.fork(0, 1);
  AppendTransaction step;
  stack.plan_append(step, std::vector<Index>{1, 1});
  for (auto& layer : stack) append_one_each(layer);
  step.commit();
  stack.truncate_all(50);
  EXPECT_EQ(read_numbers(stack[1], 1), counting(0, 50));
}

/// Whoever is not in the batch keeps the page as it is.
TEST(SharedPage, OfOthersIsCopiedByAll) {
  const auto pages = make_pages(2);
  Paged cache(pages, {.batch = 3, .capacity = 200, .heads = heads});
  append_numbers(cache, 0, counting(0, 50));
  cache.fork(0, 1);
  const auto refused = [&](auto operation) {
    return error_of<std::length_error>(operation) ==
           "PageAllocator: 2 pages are needed, 1 of 2 are free";
  };
  std::optional<Paged::Prefix> prefix(cache.share_prefix(0, 50));
  const std::vector<Index> two{1, 1, 0};
  EXPECT_TRUE(refused([&] { append_one_each(cache, two); }));
  prefix.reset();
  cache.fork(0, 2);
  EXPECT_TRUE(refused([&] { append_one_each(cache, two); }));
  EXPECT_TRUE(refused([&] { append_one_each(cache); }));
  cache.clear(2);
  std::optional<Paged> copy(cache.clone());
  EXPECT_TRUE(refused([&] { append_one_each(cache, two); }));
  copy.reset();
  append_one_each(cache, two);
  EXPECT_EQ(read_numbers(cache, 0), counting_then(50, 100));
  EXPECT_EQ(read_numbers(cache, 1), counting_then(50, 101));
}

/// After random appends and forks: what a batch asks for is what it takes.
TEST(SharedPage, IsCopiedAsOftenAsItMustBe) {
  Random random(7);
  constexpr Index batch = 5, page_tokens = 128;
  for (int round = 0; round < 300; ++round) {
    const auto pages = make_pages(40, page_tokens);
    Paged cache(pages,
                {.batch = batch, .capacity = 400, .page_tokens = page_tokens, .heads = heads});
    std::vector<std::vector<float>> expected(batch);
    const auto at = [](Index i) { return static_cast<std::size_t>(i); };
    const auto check = [&] {
      for (Index b = 0; b < batch; ++b) ASSERT_EQ(read_numbers(cache, b), expected[at(b)]);
    };
    for (int i = 0; i < 4; ++i) {
      const Index b = random.integer(0, batch - 1), count = random.integer(1, 90);
      const auto numbers = counting(1000 * i, count);
      append_numbers(cache, b, numbers);
      expected[at(b)].insert(expected[at(b)].end(), numbers.begin(), numbers.end());
      const Index from = random.integer(0, batch - 1), to = random.integer(0, batch - 1);
      cache.fork(from, to);
      expected[at(to)] = expected[at(from)];
    }
    std::vector<Index> counts(batch);
    for (Index& n : counts) n = random.integer(0, 1);
    Paged twin = cache.clone();
    const Index before = pages->statistics().used;
    append_one_each(twin, counts);  // the pages of `cache` are others': all are copied
    const Index copied = pages->statistics().used - before;
    twin.clear();
    // With one free page more each time, until they are enough.
    const Index used_before = pages->statistics().used;
    Paged filler(pages, {.capacity = 40 * page_tokens, .page_tokens = page_tokens, .heads = heads});
    for (Index left = 0;; ++left) {
      ASSERT_LE(left, copied);
      filler.clear();
      filler.reserve(0, (pages->statistics().free - left) * page_tokens);
      try {
        append_one_each(cache, counts);
      } catch (const std::length_error&) {
        check();
        continue;
      }
      EXPECT_EQ(pages->statistics().free, 0) << left;  // as many as were needed, not one more
      filler.clear();
      EXPECT_EQ(pages->statistics().used - used_before, left);
      break;
    }
    for (Index b = 0; b < batch; ++b) {
      if (counts[at(b)] > 0) expected[at(b)].push_back(static_cast<float>(100 + b));
    }
    check();
  }
}

}  // namespace
}  // namespace gqa::test
