// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/kernel/shared_prefix.hpp"

#include <gtest/gtest.h>

#include "gqa/cache/paged.hpp"
#include "gqa/cache/selection.hpp"
#include "support/attention_case.hpp"
#include "support/errors.hpp"

namespace gqa::test {
namespace {

const Heads<> heads(6, 2, 16, 8);

/// Sequences, by the document they begin with:
///   0, 2: 1100 tokens of a prompt; 4, 6: 1600 of it, 5: 500; 1: something else; 3: nothing.
template <typename Storage>
PagedKvCache<Storage> make_family() {
  const auto allocator = std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = 150, .page_bytes = PagedKvCache<Storage>::page_bytes(heads)});
  PagedKvCache<Storage> cache(allocator, {.batch = 7, .capacity = 3000, .heads = heads});
  Random random(1);
  const auto append = [&](Index sequence, Index tokens) {
    const auto k = random_tensor<float>(random, {1, tokens, 2, 16});
    const auto v = random_tensor<float>(random, {1, tokens, 2, 8});
    cache.append(sequence, k.view(), v.view());
  };
  append(4, 1600);
  cache.fork(4, 6);
  for (const Index b : {0, 2}) cache.start_with(b, cache.share_prefix(4, 1100));
  cache.start_with(5, cache.share_prefix(4, 500));
  append(0, 70);
  append(1, 700);
  append(2, 3);
  append(5, 900);
  append(6, 64);
  return cache;
}

template <typename T>
struct Result {
  TestTensor<T> out;
  std::vector<float> lse;
};
template <typename A, typename B>
bool same_result(const A& a, const B& b) {
  return same_bits(a.out.storage(), b.out.storage()) && same_bits(a.lse, b.lse);
}

/// Both front doors over the same arguments.
template <typename Source, typename Rules>
auto run(const TestTensor<float>& q, const Source& source, const Rules& rules,
         std::span<const Index> q_lens, bool shared, Index threads) {
  const TensorShape& s = q.shape();
  Result<float> result{TestTensor<float>({s.batch, s.tokens, s.heads, source.value_dim()}),
                       std::vector<float>(static_cast<std::size_t>(s.batch * s.heads * s.tokens))};
  result.out.fill(7);
  const AttendOptions<float> options{
      .lse = LseView<float>(result.lse.data(), s.batch, s.heads, s.tokens), .q_lens = q_lens};
  if (shared) {
    attend_shared_prefix(q.view(), source, result.out.view(), rules, options,
                         TestExecutor{threads});
  } else {
    attend(q.view(), source, result.out.view(), rules, options, TestExecutor{threads});
  }
  return result;
}

TEST(PrefixTree, FindsGroupsWithinGroups) {
  const auto cache = make_family<float>();
  Index order[7];
  gqa::detail::PrefixNode nodes[14];
  const StripLayout<float> layout(cache.head_dim(), cache.value_dim());
  const gqa::detail::PrefixTree tree(cache, layout.block_bytes(), order, nodes);
  EXPECT_TRUE(tree.shares());
  std::vector<std::string> found;
  for (Index i = 0; i < tree.size(); ++i) {
    const auto& node = tree[i];
    std::string members;
    for (Index place = node.begin; place < node.end; ++place) {
      members += std::to_string(tree.sequence(place)) + " ";
    }
    found.push_back(message(members, "splits ", node.split_begin, " to ", node.split_end,
                            ", depth ", node.depth));
  }
  EXPECT_EQ(found, (std::vector<std::string>{
                       "0 2 4 6 1 3 5 splits 0 to 0, depth 0",
                       "0 2 4 6 splits 0 to 2, depth 1",
                       "1 splits 0 to 2, depth 1",
                       "3 splits 0 to 0, depth 1",
                       "5 splits 0 to 3, depth 1",
                       "0 splits 2 to 3, depth 2",
                       "2 splits 2 to 3, depth 2",
                       "4 6 splits 2 to 3, depth 2",
                       "4 splits 3 to 4, depth 3",
                       "6 splits 3 to 4, depth 3",
                   }));
}

TEST(SharedPrefix, GivesTheBitsOfAttendingSeparatelyWhateverTheRules) {
  const auto cache = make_family<float>();
  Random random(2);
  const TestTensor<float> q = random_tensor<float>(random, {7, 40, 6, 16});
  const std::vector<Index> q_lens{1, 40, 3, 0, 17, 40, 1};
  RuleFactory factory({.batch = 7,
                       .q_len = 40,
                       .kv_len = 1670,
                       .num_heads = 6,
                       .num_kv_heads = 2,
                       .head_dim = 16,
                       .value_dim = 8},
                      random);
  for (std::size_t mask = 0; mask < mask_names.size(); ++mask) {
    const auto score = static_cast<ScoreChoice>(mask % score_names.size());
    const auto rules = factory.masks_and_scores(0.25, static_cast<MaskChoice>(mask), score);
    const auto expected = run(q, cache, rules, q_lens, false, 1);
    for (const Index threads : {1, 3, 8}) {  // of 8, some splits are tasks
      EXPECT_TRUE(same_result(run(q, cache, rules, q_lens, true, threads), expected))
          << mask_names[mask] << ", " << score_names[mask % score_names.size()] << ", " << threads;
    }
  }
}

/// Of int8, where a row's weights have a scale of their own.
TEST(SharedPrefix, GivesTheBitsForDecodingAndForChunksOfASelection) {
  const auto cache = make_family<Int8>();
  Random random(3);
  const std::vector<Index> chosen{6, 0, 1, 4, 2};
  for (const Index q_len : {1, 30}) {
    const TestTensor<float> q = random_tensor<float>(random, {5, q_len, 6, 16});
    const auto source = select(cache, chosen);
    EXPECT_TRUE(
        same_result(run(q, source, Causal{}, {}, true, 2), run(q, source, Causal{}, {}, false, 2)));
  }
}

TEST(SharedPrefix, ReadsAHiddenNanForNobodyElse) {
  const auto allocator = std::make_shared<PageAllocator>(
      PageAllocator::Options{.pages = 30, .page_bytes = PagedKvCache<float>::page_bytes(heads)});
  PagedKvCache<float> cache(allocator, {.batch = 2, .capacity = 1000, .heads = heads});
  Random random(4);
  auto k = random_tensor<float>(random, {1, 600, 2, 16});
  auto v = random_tensor<float>(random, {1, 600, 2, 8});
  v.fill_row(0, 300, 1, TestTensor<float>::nan);
  cache.append(0, k.view(), v.view());
  cache.fork(0, 1);
  const TestTensor<float> q = random_tensor<float>(random, {2, 2, 6, 16});
  const auto rules = NoMask{} & mask_function([](const Where& w) {
                       return w.batch == 0 || w.k_pos != 300;  // only sequence 0 sees it
                     });
  EXPECT_TRUE(same_result(run(q, cache, rules, {}, true, 1), run(q, cache, rules, {}, false, 1)));
}

TEST(SharedPrefix, ChecksAsAttendDoes) {
  const auto cache = make_family<float>();
  const TestTensor<float> q({3, 1, 6, 16});
  EXPECT_EQ(error_of([&] { run(q, cache, Causal{}, {}, true, 1); }),
            "attend_shared_prefix: the keys' batch is 7, but the queries' is 3");
}

}  // namespace
}  // namespace gqa::test
