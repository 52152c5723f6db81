// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/kernel/splits.hpp"

#include <gtest/gtest.h>

#include "gqa/kernel/explain.hpp"
#include "support/attention_case.hpp"

namespace gqa::test {
namespace {

/// As many keys as one likes, all of them in the same 64 keys of memory, those of [dropped_begin,
/// dropped_end) gone.
class EndlessSource {
 public:
  using Storage = float;
  static constexpr KvLayout layout = KvLayout::strips;

  explicit EndlessSource(Index length, Index dropped_begin = 0, Index dropped_end = 0)
      : length_(length), dropped_begin_(dropped_begin), dropped_end_(dropped_end) {
    Random random(1);
    for (float& x : block_) x = static_cast<float>(random.normal());
  }
  Index batch() const { return 1; }
  Index num_kv_heads() const { return 1; }
  Index head_dim() const { return 16; }
  Index value_dim() const { return 16; }
  Index length(Index) const { return length_; }
  Index next_held(Index, Index key) const {
    return key >= dropped_begin_ && key < dropped_end_ ? dropped_end_ : key;
  }
  template <typename F>
  void for_each_run(Index, Index, Index begin, Index end, F&& fn) const {
    for (Index first = begin; first < end; first += block_keys) {
      if (first >= dropped_begin_ && first < dropped_end_) continue;
      fn(StripRun{.blocks = reinterpret_cast<const std::byte*>(block_.data()),
                  .first = first,
                  .count = std::min(block_keys, end - first)});
    }
  }

 private:
  Index length_, dropped_begin_, dropped_end_;
  std::array<float, 64 * 32> block_;
};

std::vector<Index> splits_of(const EndlessSource& source, const std::vector<bool>& seen,
                             Index* questions = nullptr) {
  std::vector<Index> found;
  const auto coverage = [&](Index begin, Index end) {
    if (questions) ++*questions;
    EXPECT_LT(begin, end);
    EXPECT_LE(end, source.length(0));
    const auto last = seen.begin() + ceil_div(end, split_keys);
    const bool none = std::find(seen.begin() + begin / split_keys, last, true) == last;
    return none ? Coverage::skip : Coverage::partial;
  };
  gqa::detail::for_each_split(source, 0, coverage,
                              [&](Index split, Coverage) { found.push_back(split); });
  return found;
}

TEST(Splits, AreThoseOfWhichSomethingIsSeenAndHeld) {
  Random random(2);
  for (int i = 0; i < 2000; ++i) {
    const Index length = random.integer(0, 60 * split_keys), splits = ceil_div(length, split_keys);
    const Index dropped_begin = random.integer(0, splits) * split_keys;
    const EndlessSource source(
        length, dropped_begin,
        std::max(dropped_begin, random.integer(-splits, splits) * split_keys));
    std::vector<bool> seen(static_cast<std::size_t>(splits));
    std::vector<Index> expected;
    for (Index split = 0; split < splits; ++split) {  // stretches of various lengths
      const auto at = static_cast<std::size_t>(split);
      seen[at] = at > 0 && random.chance(0.8) ? seen[at - 1] : random.chance(0.5);
      if (seen[at] && source.next_held(0, split * split_keys) == split * split_keys) {
        expected.push_back(split);
      }
    }
    ASSERT_EQ(splits_of(source, seen), expected) << "length " << length;
  }
}

TEST(Splits, AreAskedForOnceEachWhereAllAreSeen) {
  Index questions = 0;
  EXPECT_EQ(
      splits_of(EndlessSource(100 * split_keys), std::vector<bool>(100, true), &questions).size(),
      100U);
  EXPECT_EQ(questions, 100);
}

TEST(Splits, BeforeAWindowAreNotVisited) {
  const Index length = 1'000'000, splits = ceil_div(length, split_keys);
  std::vector<bool> window(static_cast<std::size_t>(splits));
  window.front() = window.back() = true;  // and the first tokens, kept
  Index questions = 0;
  EXPECT_EQ(splits_of(EndlessSource(length), window, &questions),
            (std::vector<Index>{0, splits - 1}));
  EXPECT_LE(questions, 40);
  questions = 0;
  EXPECT_EQ(splits_of(EndlessSource(length, 64, 999'936), window, &questions),
            (std::vector<Index>{0, splits - 1}));
  EXPECT_EQ(questions, 2);
}

/// Tasks and scratch follow from what is seen, not from the position.
TEST(Splits, OfADecodeStepFarFromKeyZeroAreFew) {
  const auto q = [] {
    Random random(3);
    return random_tensor<float>(random, {1, 1, 4, 16});
  }();
  const auto rules = Causal{} & SlidingWindow::from_hf(1000) & KeepFirst{4};
  const auto plan = [&](Index length) {
    TestTensor<float> out(q.shape());
    return explain(q.view(), EndlessSource(length), out.view(), rules, {}, TestExecutor{4});
  };
  EXPECT_EQ(plan(1'000'000).tasks, 4);  // the first split, and three that the window touches
  EXPECT_EQ(plan(1'000'000).scratch_bytes, plan(10'000).scratch_bytes);
  EXPECT_EQ(plan(1'000'000).tasks, plan(10'000).tasks);

  const EndlessSource whole(1'000'000), ring(1'000'000, 64, 998'912);
  TestTensor<float> expected(q.shape());
  attend(q.view(), whole, expected.view(), rules);
  for (const EndlessSource* source : {&whole, &ring}) {
    for (const Index threads : {1, 4}) {
      TestTensor<float> out(q.shape());
      attend(q.view(), *source, out.view(), rules, {}, TestExecutor{threads});
      EXPECT_TRUE(same_bits(out.storage(), expected.storage())) << threads;
    }
  }
}

TEST(Splits, OfARowThatSeesNothingGiveZeros) {
  const TestTensor<float> q({1, 1, 4, 16});
  for (const Index threads : {1, 4}) {
    TestTensor<float> out(q.shape());
    out.fill(1);
    std::vector<float> lse(4);
    attend(q.view(), EndlessSource(5000), out.view(),
           mask_function([](const Where&) { return false; }) & SlidingWindow{.left = 0, .right = 0},
           {.lse = LseView<float>(lse.data(), 1, 4, 1), .positions = std::vector<Index>{-5}},
           TestExecutor{threads});
    EXPECT_TRUE(same_bits(out.storage(), q.storage()));
    for (const float x : lse) EXPECT_EQ(x, -std::numeric_limits<float>::infinity());
  }
}

}  // namespace
}  // namespace gqa::test
