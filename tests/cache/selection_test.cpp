// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/cache/selection.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "gqa/cache/contiguous.hpp"
#include "gqa/cache/paged.hpp"
#include "gqa/kernel/attend.hpp"
#include "support/errors.hpp"
#include "tokens.hpp"

namespace gqa::test {
namespace {

const Heads<> heads(4, 2, 8);

PagedKvCache<float> make_paged(Index pages) {
  const auto allocator = std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = pages, .page_bytes = PagedKvCache<float>::page_bytes(heads)});
  return PagedKvCache<float>(allocator, {.batch = 5, .capacity = 1000, .heads = heads});
}

/// Prefill chunks and decode steps of three of five sequences, in another order.
TEST(SelectedKv, GivesEachRequestTheBitsOfItsOwnCall) {
  auto cache = make_paged(40);
  Random random(1);
  std::vector<KvCache<float>> alone;
  for (Index b = 0; b < 5; ++b) {
    const Index length = 40 * b;
    const auto k = random_tensor<float>(random, {1, length, 2, 8});
    const auto v = random_tensor<float>(random, {1, length, 2, 8});
    cache.append(b, k.view(), v.view());
    alone.emplace_back(KvCache<float>::Options{.capacity = 1000, .heads = heads});
    alone.back().append(k.view(), v.view());
  }
  const std::vector<Index> chosen{4, 0, 2}, q_lens{1, 70, 3};
  const auto k = random_tensor<float>(random, {3, 70, 2, 8});
  const auto v = random_tensor<float>(random, {3, 70, 2, 8});
  const auto q = random_tensor<float>(random, {3, 70, 4, 8});
  auto selected = select(cache, chosen);
  static_assert(KvSource<decltype(selected)>);
  selected.append(k.view(), v.view(), q_lens);
  EXPECT_EQ(selected.batch(), 3);
  EXPECT_EQ(selected.length(0), 161);
  EXPECT_EQ(cache.length(1), 40);
  TestTensor<float> out(q.shape());
  attend(q.view(), selected, out.view(), Causal{}, {.q_lens = q_lens});
  for (std::size_t i = 0; i < 3; ++i) {
    const auto b = static_cast<Index>(i);
    auto& one = alone[static_cast<std::size_t>(chosen[i])];
    const auto tokens = [&](const auto& tensor) {
      return tensor.view().sequence(b).tokens_slice(0, q_lens[i]);
    };
    one.append(tokens(k), tokens(v));
    TestTensor<float> expected({1, q_lens[i], 4, 8});
    attend(tokens(q), one, expected.view(), Causal{});
    for (Index t = 0; t < q_lens[i]; ++t) {
      for (Index h = 0; h < 4; ++h) {
        EXPECT_EQ(std::memcmp(out.row(b, t, h), expected.row(0, t, h), 8 * sizeof(float)), 0);
      }
    }
  }
}

TEST(SelectedKv, AppendsToAllOrNone) {
  auto cache = make_paged(4);
  for (Index b = 0; b < 3; ++b) append_numbers(cache, b, counting(0, 60));
  const TestTensor<float> kv({3, 10, 2, 8});
  const std::vector<Index> chosen{2, 0, 1};
  EXPECT_EQ(
      error_of<std::length_error>([&] { select(cache, chosen).append(kv.view(), kv.view()); }),
      "PageAllocator: 1 pages are needed, 0 of 4 are free");
  for (Index b = 0; b < 3; ++b) EXPECT_EQ(read_numbers(cache, b), counting(0, 60));
  EXPECT_EQ(cache.allocator()->statistics().free, 1);
  select(cache, chosen).append(kv.view(), kv.view(), std::vector<Index>{4, 5, 4});
  EXPECT_EQ(cache.length(0), 65);
  EXPECT_EQ(cache.length(1), 64);
  select(cache, chosen).truncate(1, 60);
  EXPECT_EQ(cache.length(0), 60);
}

TEST(SelectedKv, RefusesWhatDoesNotFit) {
  auto cache = make_paged(4);
  const TestTensor<float> kv({2, 3, 2, 8});
  const auto append = [&](const std::vector<Index>& chosen, const auto& k, const auto& v,
                          const std::vector<Index>& counts = {}) {
    return error_of([&] { select(cache, chosen).append(k.view(), v.view(), counts); });
  };
  EXPECT_EQ(append({0, 5}, kv, kv), "SelectedKv: sequence 5 is outside of a batch of 5");
  EXPECT_EQ(append({3, 3}, kv, kv), "SelectedKv::append: sequence 3 is selected twice");
  EXPECT_EQ(append({0}, kv, kv),
            "SelectedKv::append: keys are [2, 3, 2, 8], expected [1, 3, 2, 8]");
  EXPECT_EQ(append({0, 1}, kv, TestTensor<float>({2, 2, 2, 8})),
            "SelectedKv::append: values are [2, 2, 2, 8], expected [2, 3, 2, 8]");
  EXPECT_EQ(append({0, 1}, kv, kv, {1}), "SelectedKv::append: 1 counts for a batch of 2");
  EXPECT_EQ(append({0, 1}, kv, kv, {1, 4}),
            "SelectedKv::append: a count of 4 is outside of [0, 3]");
  EXPECT_EQ(cache.pages(), 0);
}

}  // namespace
}  // namespace gqa::test
