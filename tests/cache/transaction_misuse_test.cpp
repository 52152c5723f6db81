// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What AppendTransaction refuses, and what it says where its sequences were misused between plan()
// and the end.
#include <gtest/gtest.h>

#include <optional>
#include <sstream>

#include "gqa/cache/contiguous.hpp"
#include "gqa/cache/kv_cache_stack.hpp"
#include "gqa/cache/paged.hpp"
#include "gqa/cache/ring.hpp"
#include "gqa/cache/selection.hpp"
#include "gqa/cache/serialize.hpp"
#include "support/errors.hpp"
#include "tokens.hpp"

namespace gqa::test {
namespace {

constexpr Index most = std::numeric_limits<Index>::max();
const Heads<> heads(2, 1, 4);

KvCache<float> make_cache() {
  return KvCache<float>({.batch = 2, .capacity = 100, .heads = heads});
}
RingKvCache<float> make_ring() {
  return RingKvCache<float>({.batch = 2, .window = 30, .spare = 20, .heads = heads});
}

TEST(TransactionPlan, RefusesSequencesAndCountsThatThereAreNot) {
  auto ring = make_ring();
  append_numbers(ring, 0, counting(0, 20));
  AppendTransaction step;
  EXPECT_EQ(error_of([&] { step.plan(ring, 3, 1); }),
            "RingKvCache::reserve: sequence 3 is outside of a batch of 2");
  EXPECT_EQ(error_of([&] { step.plan(ring, -1, 1); }),
            "RingKvCache::reserve: sequence -1 is outside of a batch of 2");
  EXPECT_EQ(error_of([&] { step.plan(ring, Index{1} << 60, 1); }),
            "RingKvCache::reserve: sequence 1152921504606846976 is outside of a batch of 2");
  EXPECT_EQ(error_of([&] { step.plan(ring, 0, -1); }),
            "RingKvCache::reserve: a count of -1 is negative");
  EXPECT_EQ(error_of([&] {
              step.plan(ring, std::vector<Index>{1, 1, 1});
            }),
            "RingKvCache::reserve: 3 counts for a batch of 2");
  EXPECT_EQ(error_of([&] {
              step.plan(ring, std::vector<Index>{1, -7});
            }),
            "RingKvCache::reserve: a count of -7 is outside of [0, 9223372036854775807]");
  EXPECT_EQ(error_of<std::length_error>([&] { step.plan(ring, 0, most); }),
            "AppendTransaction: 9223372036854775807 tokens can't be taken back from sequence 0, "
            "which has 20");
  EXPECT_FALSE(step.is_open());
  EXPECT_EQ(error_of([&] { (void)ring.can_undo(2, 1); }),
            "RingKvCache::length: sequence 2 is outside of a batch of 2");
}

TEST(Selection, RefusesSequencesThatItHasNot) {
  auto cache = make_cache();
  const std::vector<Index> chosen{1};
  const auto selected = select(cache, chosen);
  EXPECT_EQ(error_of([&] { (void)selected.length(1); }),
            "SelectedKv::length: sequence 1 is outside of a batch of 1");
  EXPECT_EQ(error_of([&] { select(cache, chosen).truncate(-1, 0); }),
            "SelectedKv::truncate: sequence -1 is outside of a batch of 1");
}

/// A step of 5 tokens on top of 10, of which 3 were appended.
template <typename Cache>
void begin_step(AppendTransaction& step, Cache& cache) {
  append_numbers(cache, 0, counting(0, 10));
  step.plan(cache, 0, 5);
  append_numbers(cache, 0, counting(10, 3));
}
const std::string planned = "AppendTransaction: sequence 0, planned for 5 tokens on top of 10, ";
const std::string shorter =
    "it was truncated, loaded or moved meanwhile, or an earlier transaction was rolled back before "
    "this one";
const std::string longer =
    "more was appended than planned, it was loaded meanwhile, or a later transaction is still open";

TEST(MisusedTransaction, SaysThatACacheWasMoved) {
  auto cache = make_cache();
  AppendTransaction step;
  begin_step(step, cache);
  const auto moved = std::move(cache);
  const std::string gone =
      planned + "is gone: its cache was moved or loaded meanwhile, and has a batch of 0";
  EXPECT_EQ(error_of<std::logic_error>([&] { step.roll_back(); }), gone);
  EXPECT_FALSE(step.is_open());
  EXPECT_EQ(moved.length(0), 13);
  cache = make_cache();
  begin_step(step, cache);
  const auto again = std::move(cache);
  EXPECT_EQ(error_of<std::logic_error>([&] { step.commit(); }), gone);
}

TEST(MisusedTransaction, SaysThatASequenceIsShorterThanPlanned) {
  auto cache = make_cache();
  AppendTransaction step;
  for (const bool commits : {false, true}) {
    cache.clear();
    begin_step(step, cache);
    cache.truncate(0, 7);
    EXPECT_EQ(error_of<std::logic_error>([&] { commits ? step.commit() : step.roll_back(); }),
              planned + "has 7: " + shorter);
    EXPECT_EQ(cache.length(0), 7);
  }
}

TEST(MisusedTransaction, SaysThatACacheWasLoaded) {
  auto other = make_cache();
  for (const Index length : {Index{4}, Index{90}}) {
    other.clear();
    append_numbers(other, 0, counting(0, length));
    std::stringstream file;
    save(other, file);
    auto cache = make_cache();
    AppendTransaction step;
    begin_step(step, cache);
    load(cache, file);
    EXPECT_EQ(error_of<std::logic_error>([&] { step.roll_back(); }),
              planned + message("has ", length, ": ") + (length < 10 ? shorter : longer));
    EXPECT_EQ(read_numbers(cache, 0), counting(0, length));
  }
}

TEST(MisusedTransaction, SaysThatTwoEndedInTheWrongOrder) {
  auto cache = make_cache();
  AppendTransaction first, second;
  begin_step(first, cache);
  second.plan(cache, 0, 2);
  append_numbers(cache, 0, counting(13, 2));
  first.roll_back();
  EXPECT_EQ(error_of<std::logic_error>([&] { second.roll_back(); }),
            "AppendTransaction: sequence 0, planned for 2 tokens on top of 13, has 10: " + shorter);
  EXPECT_EQ(read_numbers(cache, 0), counting(0, 10));

  // In the right order, all goes back; so it does where one transaction planned a sequence twice.
  first.plan(cache, 0, 5);
  append_numbers(cache, 0, counting(10, 5));
  second.plan(cache, 0, 7);
  append_numbers(cache, 0, counting(15, 7));
  second.roll_back();
  first.plan(cache, 0, 4);
  append_numbers(cache, 0, counting(15, 4));
  first.roll_back();
  EXPECT_EQ(read_numbers(cache, 0), counting(0, 10));
}

TEST(MisusedTransaction, SaysThatALaterOneIsStillOpen) {
  auto ring = make_ring();
  AppendTransaction first, second;
  begin_step(first, ring);
  append_numbers(ring, 0, counting(13, 2));
  for (Index t = 15; t < 200; t += 10) {
    second.plan(ring, 0, 10);
    append_numbers(ring, 0, counting(t, 10));
    second.commit();
  }
  EXPECT_EQ(error_of<std::logic_error>([&] { first.roll_back(); }), planned + "has 205: " + longer);
  EXPECT_EQ(ring.length(0), 205);
}

TEST(MisusedTransaction, SaysThatASequenceWasForked) {
  const auto pages = std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = 1, .page_bytes = PagedKvCache<float>::page_bytes(heads)});
  PagedKvCache<float> cache(pages, {.batch = 2, .capacity = 100, .heads = heads});
  AppendTransaction step;
  begin_step(step, cache);
  cache.fork(0, 1);
  EXPECT_EQ(error_of<std::logic_error>([&] { step.roll_back(); }),
            planned +
                "can't be taken back (PageAllocator: 1 pages are needed, 0 of 1 are free): "
                "it was forked meanwhile");
  EXPECT_EQ(read_numbers(cache, 0), counting(0, 13));
}

TEST(MisusedTransaction, TakesBackWhatItCan) {
  std::vector<KvCache<float>> layers;
  for (int i = 0; i < 3; ++i) layers.push_back(make_cache());
  AppendTransaction step;
  for (auto& layer : layers) begin_step(step, layer);
  layers[1].truncate(0, 2);
  EXPECT_EQ(error_of<std::logic_error>([&] { step.roll_back(); }), planned + "has 2: " + shorter);
  EXPECT_EQ(layers[0].length(0), 10);
  EXPECT_EQ(layers[2].length(0), 10);
  step.roll_back();  // closed
}

/// A destructor can't throw: the program ends, with the reason.
TEST(MisusedTransactionDeathTest, EndsTheProgramWithTheReason) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "forks";
#endif
  EXPECT_DEATH(
      {
        auto cache = make_cache();
        AppendTransaction step;
        begin_step(step, cache);
        cache.clear();
      },
      "sequence 0, planned for 5 tokens on top of 10, has 0: it was truncated");
  EXPECT_DEATH(
      {
        std::optional<KvCache<float>> moved;
        auto cache = make_cache();
        AppendTransaction step;
        begin_step(step, cache);
        moved.emplace(std::move(cache));
      },
      "is gone: its cache was moved");
}

}  // namespace
}  // namespace gqa::test
