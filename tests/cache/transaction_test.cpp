// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/cache/transaction.hpp"

#include <gtest/gtest.h>

#include "gqa/cache/contiguous.hpp"
#include "gqa/cache/paged.hpp"
#include "gqa/cache/ring.hpp"
#include "support/errors.hpp"
#include "tokens.hpp"

namespace gqa::test {
namespace {

const Heads<> heads(2, 1, 4);

/// A model of three layers, each with a cache of its own kind: 100 tokens per sequence in the
/// contiguous one, four pages, and a ring that can go back 20 tokens.
struct Layers {
  std::shared_ptr<PageAllocator> pages = std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = 4, .page_bytes = PagedKvCache<float>::page_bytes(heads)});
  KvCache<float> contiguous{{.batch = 2, .capacity = 100, .heads = heads}};
  PagedKvCache<float> paged{pages, {.batch = 2, .capacity = 200, .heads = heads}};
  RingKvCache<float> ring{{.batch = 2, .window = 30, .spare = 20, .heads = heads}};

  void plan(AppendTransaction& step, const std::vector<Index>& counts) {
    step.plan(contiguous, counts);
    step.plan(paged, counts);
    step.plan(ring, counts);
  }
  /// Appends tokens numbered from their sequence's length on.
  void append(Index sequence, Index count) {
    const auto numbers = counting(contiguous.length(sequence), count);
    append_numbers(contiguous, sequence, numbers);
    append_numbers(paged, sequence, numbers);
    append_numbers(ring, sequence, numbers);
  }
  void expect_lengths(Index first, Index second) const {
    const auto expect = [&](const auto& cache) {
      EXPECT_EQ(read_numbers(cache, 0), counting(0, first));
      EXPECT_EQ(read_numbers(cache, 1), counting(0, second));
    };
    expect(contiguous);
    expect(paged);
    expect(ring);
  }
};

TEST(AppendTransaction, CommitKeepsEverything) {
  Layers layers;
  AppendTransaction step;
  EXPECT_FALSE(step.is_open());
  layers.plan(step, {20, 10});
  EXPECT_TRUE(step.is_open());
  layers.append(0, 20);
  layers.append(1, 10);
  step.commit();
  EXPECT_FALSE(step.is_open());
  step.roll_back();  // nothing left to take back
  layers.expect_lengths(20, 10);
}

TEST(AppendTransaction, EndingWithoutCommitTakesEverythingBack) {
  Layers layers;
  layers.append(0, 5);
  layers.append(1, 3);
  EXPECT_EQ(layers.pages->statistics().used, 2);
  try {
    AppendTransaction step;
    layers.plan(step, {20, 20});
    layers.append(0, 20);
    append_numbers(layers.paged, 1, counting(3, 20));
    throw std::runtime_error("a layer failed");
  } catch (const std::runtime_error&) {
  }
  layers.expect_lengths(5, 3);
  EXPECT_EQ(layers.pages->statistics().used, 2);
}

TEST(AppendTransaction, PlanThatFailsInOneLayerChangesNone) {
  Layers layers;
  layers.append(0, 20);
  for (int i = 0; i < 4; ++i) layers.append(1, 20);  // three of the four pages
  AppendTransaction step;
  step.plan(layers.contiguous, std::vector<Index>{20, 20});
  append_numbers(layers.contiguous, 1, counting(80, 1));
  // Sequence 0 needs no page for 20 tokens, sequence 1 none either; 60 and 60 need two.
  EXPECT_EQ(error_of<std::length_error>([&] {
              step.plan(layers.paged, std::vector<Index>{60, 60});
            }),
            "PageAllocator: 2 pages are needed, 1 of 4 are free");
  EXPECT_EQ(error_of([&] { step.plan(layers.paged, std::vector<Index>{1}); }),
            "PagedKvCache::reserve: 1 counts for a batch of 2");
  EXPECT_EQ(error_of([&] { step.plan(layers.paged, 2, 1); }),
            "PagedKvCache::reserve: sequence 2 is outside of a batch of 2");
  EXPECT_TRUE(step.is_open());
  step.roll_back();
  EXPECT_EQ(read_numbers(layers.contiguous, 1), counting(0, 80));
  EXPECT_EQ(layers.pages->statistics().free, 1);
}

TEST(AppendTransaction, ReservedRoomIsThereWhateverOthersTake) {
  Layers layers;
  PagedKvCache<float> other(layers.pages, {.capacity = 500, .heads = heads});
  AppendTransaction step;
  step.plan(layers.paged, 0, 150);
  EXPECT_EQ(error_of<std::length_error>([&] { append_numbers(other, 0, counting(0, 65)); }),
            "PageAllocator: 2 pages are needed, 1 of 4 are free");
  append_numbers(layers.paged, 0, counting(0, 30));  // fewer than planned
  step.commit();
  append_numbers(other, 0, counting(0, 3 * 64));
  EXPECT_EQ(layers.pages->statistics().free, 0);
  EXPECT_EQ(read_numbers(layers.paged, 0), counting(0, 30));
}

TEST(AppendTransaction, ASharedPageIsCopiedWhenPlanned) {
  Layers layers;
  append_numbers(layers.paged, 0, counting(0, 30));
  layers.paged.fork(0, 1);
  AppendTransaction step;
  step.plan(layers.paged, 1, 1);
  EXPECT_EQ(layers.pages->statistics().used, 2);
  PagedKvCache<float> other(layers.pages, {.capacity = 500, .heads = heads});
  append_numbers(other, 0, counting(0, 128));  // none is left
  append_numbers(layers.paged, 1, {7});
  step.roll_back();  // needs none
  EXPECT_EQ(read_numbers(layers.paged, 1), counting(0, 30));
}

TEST(AppendTransaction, RingsRefuseWhatTheyCouldNotTakeBack) {
  Layers layers;
  for (int i = 0; i < 10; ++i) {
    append_numbers(layers.ring, 0, counting(i * 20, 20));
  }
  AppendTransaction step;
  EXPECT_EQ(error_of<std::length_error>([&] { step.plan(layers.ring, 0, 100); }),
            "AppendTransaction: 100 tokens can't be taken back from sequence 0, which has 200");
  EXPECT_FALSE(step.is_open());
  step.plan(layers.ring, 0, 20);
  append_numbers(layers.ring, 0, counting(200, 20));
  step.roll_back();
  EXPECT_EQ(layers.ring.length(0), 200);
  EXPECT_EQ(read_numbers(layers.ring, 0, 170, 30), counting(170, 30));
}

}  // namespace
}  // namespace gqa::test
