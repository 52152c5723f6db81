// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Bits of a row depend on its query, its keys and the rules, and on nothing else: not on threads,
// on the other sequences of the batch, on how many queries or heads are computed together, on how a
// prompt was cut, or on whether keys come from a cache or from rows.
#include <gtest/gtest.h>

#include "support/attention_case.hpp"

namespace gqa::test {
namespace {

/// Batches of several sequences, several row blocks (96 rows) and splits (512 keys).
const std::vector<AttentionCase>& cases() {
  static const std::vector<AttentionCase> all = [] {
    std::vector<AttentionCase> list;
    const auto add = [&](Index group, Index q_len, Index kv_len, Ragged ragged) {
      AttentionCase c{.group = group,
                      .num_kv_heads = 2,
                      .q_len = q_len,
                      .kv_len = kv_len,
                      .head_dim = 33,
                      .value_dim = 40,
                      .batch = 3};
      c.ragged = ragged;
      c.seed = static_cast<std::uint64_t>(list.size() + 1);
      list.push_back(c);
    };
    add(4, 1, 1300, Ragged::keys);
    add(1, 1, 577, Ragged::none);
    add(3, 8, 1100, Ragged::both);
    add(12, 17, 600, Ragged::both);
    add(5, 65, 70, Ragged::queries);
    add(7, 3, 40, Ragged::none);
    return list;
  }();
  return all;
}

/// Rules that decide by position. Those with scores take another path through the kernels, compiled
/// for float alone to spare time.
template <Scalar Storage, typename F>
void for_each_rules(Index num_heads, F fn) {
  fn(Causal{}, "Causal");
  if constexpr (std::same_as<Storage, float>) {
    fn(Causal{} & SlidingWindow::from_hf(90) & KeepFirst{4} & Alibi::standard(num_heads),
       "window, ALiBi");
  }
}

template <Scalar Storage, typename F>
void for_each_case(F fn) {
  for (const AttentionCase& c : cases()) {
    Random random(c.seed);
    const auto input = make_input<AccumulatorOf<Storage>, Storage>(c, random);
    for_each_rules<Storage>(c.group * c.num_kv_heads, [&](const auto& rules, const char* name) {
      SCOPED_TRACE(to_string(c) + ", " + name);
      fn(input, rules);
    });
  }
}

constexpr TestExecutor one_thread{1};

template <Scalar Storage>
class Determinism : public testing::Test {};
using Storages = testing::Types<float, bfloat16, double>;
TYPED_TEST_SUITE(Determinism, Storages);

template <Scalar Query, Scalar Storage, KvSource Source>
auto run(const AttentionInput<Query, Storage>& input, const Source& source, const auto& rules,
         Index threads = 1) {
  return attend_over<AccumulatorOf<Query>>(input, source, rules, TestExecutor{threads});
}

TYPED_TEST(Determinism, AnyNumberOfThreadsGivesTheSameBits) {
  for_each_case<TypeParam>([](const auto& input, const auto& rules) {
    const auto cache = input.cache();
    const auto serial = run(input, cache, rules);
    for (const Index threads : {2, 3, 8}) {
      EXPECT_TRUE(same_bits(run(input, cache, rules, threads), serial)) << threads;
    }
  });
}

TYPED_TEST(Determinism, RowsGiveTheBitsOfACache) {
  for_each_case<TypeParam>([](const auto& input, const auto& rules) {
    const auto from_cache = run(input, input.cache(100), rules);
    for (const Index threads : {1, 3}) {
      EXPECT_TRUE(same_bits(run(input, input.rows_kv(), rules, threads), from_cache)) << threads;
    }
  });
}

/// Sequence b of an input, by itself.
template <Scalar Query, Scalar Storage>
AttentionInput<Query, Storage> sequence(const AttentionInput<Query, Storage>& input, Index b) {
  const auto copy = [b](const auto& tensor, Index tokens) {
    const TensorShape& s = tensor.shape();
    std::remove_cvref_t<decltype(tensor)> one({1, tokens, s.heads, s.dim});
    for (Index t = 0; t < tokens; ++t) {
      for (Index h = 0; h < s.heads; ++h) {
        std::copy_n(tensor.row(b, t, h), s.dim, one.row(0, t, h));
      }
    }
    return one;
  };
  return {.q = copy(input.q, input.q_len(b)),
          .k = copy(input.k, input.length(b)),
          .v = copy(input.v, input.length(b))};
}

/// Row [b, i, h] of a result has the bits of row [other_b, other_i, other_h] of another.
template <typename Result>
bool same_row(const Result& a, Index b, Index i, Index h, const Result& other, Index other_b,
              Index other_i, Index other_h) {
  const auto lse = [](const Result& r, Index batch, Index token, Index head) {
    const TensorShape& s = r.out.shape();
    return r.lse[static_cast<std::size_t>((batch * s.heads + head) * s.tokens + token)];
  };
  const auto x = lse(a, b, i, h), y = lse(other, other_b, other_i, other_h);
  const auto *row = a.out.row(b, i, h), *other_row = other.out.row(other_b, other_i, other_h);
  return std::memcmp(&x, &y, sizeof x) == 0 &&
         std::memcmp(row, other_row, static_cast<std::size_t>(a.out.shape().dim) * sizeof *row) ==
             0;
}

TYPED_TEST(Determinism, SequenceGivesTheSameBitsAloneAndInABatch) {
  for_each_case<TypeParam>([](const auto& input, const auto& rules) {
    const auto batch = run(input, input.cache(), rules, 3);
    for (Index b = 0; b < input.batch(); ++b) {
      const auto alone_input = sequence(input, b);
      const auto alone = run(alone_input, alone_input.cache(), rules, 2);
      for (Index i = 0; i < input.q_len(b); ++i) {
        for (Index h = 0; h < input.num_heads(); ++h) {
          ASSERT_TRUE(same_row(batch, b, i, h, alone, 0, i, h)) << b << ", " << i << ", " << h;
        }
      }
    }
  });
}

TYPED_TEST(Determinism, QueryGivesTheSameBitsAloneAndAmongOthers) {
  using T = AccumulatorOf<TypeParam>;
  for_each_case<TypeParam>([](const auto& input, const auto& rules) {
    const auto cache = input.cache();
    const auto together = run(input, cache, rules);
    for (Index i = 0; i < input.q_len(); ++i) {
      if (input.q_len() > 10 && i % 7 != 0) continue;  // some of many
      auto one = input;
      one.q = TestTensor<T>({input.batch(), 1, input.num_heads(), input.q.shape().dim});
      one.q_lens.clear();
      one.positions.clear();
      for (Index b = 0; b < input.batch(); ++b) {
        one.positions.push_back(input.q_pos(b, i));
        for (Index h = 0; h < input.num_heads(); ++h) {
          std::copy_n(input.q.row(b, i, h), input.q.shape().dim, one.q.row(b, 0, h));
        }
      }
      const auto alone = run(one, cache, rules);
      for (Index b = 0; b < input.batch(); ++b) {
        if (i >= input.q_len(b)) continue;
        for (Index h = 0; h < input.num_heads(); ++h) {
          ASSERT_TRUE(same_row(together, b, i, h, alone, b, 0, h)) << b << ", " << i << ", " << h;
        }
      }
    }
  });
}

/// One sequence, its tokens appended and attended to in chunks.
template <Scalar Storage>
auto in_chunks(const AttentionInput<AccumulatorOf<Storage>, Storage>& input, const auto& rules,
               const std::vector<Index>& chunks, Index threads) {
  using T = AccumulatorOf<Storage>;
  const TensorShape& keys = input.k.shape();
  KvCache<Storage> cache({.batch = 1,
                          .capacity = keys.tokens,
                          .heads = {input.num_heads(), keys.heads, keys.dim, input.v.shape().dim}});
  AttentionResult<T, T> result(input.out_shape());
  for (Index begin = 0, chunk = 0; begin < keys.tokens; ++chunk) {
    const Index wanted = chunks[static_cast<std::size_t>(chunk) % chunks.size()];
    const Index count = std::min(wanted, keys.tokens - begin);
    cache.append(input.k.view().tokens_slice(begin, count),
                 input.v.view().tokens_slice(begin, count));
    std::vector<T> lse(static_cast<std::size_t>(input.num_heads() * count));
    attend(input.q.view().tokens_slice(begin, count), cache,
           result.out.view().tokens_slice(begin, count), rules,
           {.lse = LseView<T>(lse.data(), 1, input.num_heads(), count)}, TestExecutor{threads});
    for (Index h = 0; h < input.num_heads(); ++h) {
      for (Index i = 0; i < count; ++i) {
        result.lse_view()(0, h, begin + i) = lse[static_cast<std::size_t>(h * count + i)];
      }
    }
    begin += count;
  }
  return result;
}

TYPED_TEST(Determinism, PromptGivesTheSameBitsHoweverItIsCut) {
  using T = AccumulatorOf<TypeParam>;
  Random random(5);
  const Index tokens = 640;
  for (const Index group : {1, 5}) {
    const AttentionInput<T, TypeParam> input{
        .q = random_tensor<T>(random, {1, tokens, group, 33}),
        .k = random_tensor<TypeParam>(random, {1, tokens, 1, 33}),
        .v = random_tensor<TypeParam>(random, {1, tokens, 1, 40})};
    for_each_rules<TypeParam>(group, [&](const auto& rules, const char* name) {
      SCOPED_TRACE(name);
      const auto whole = run(input, input.cache(), rules);
      for (const auto& chunks : std::vector<std::vector<Index>>{
               {1}, {2}, {7, 1, 8}, {16}, {31, 33}, {64}, {63, 65}, {100, 3}, {500, 1}, {639}}) {
        EXPECT_TRUE(same_bits(in_chunks(input, rules, chunks, 1), whole)) << chunks[0];
        EXPECT_TRUE(same_bits(in_chunks(input, rules, chunks, 3), whole)) << chunks[0];
      }
      EXPECT_TRUE(same_bits(run(input, input.rows_kv(), rules, 2), whole));
    });
  }
}

TYPED_TEST(Determinism, HeadGivesTheSameBitsAloneAndInItsGroup) {
  // MHA, GQA and MQA are one kernel: a group of 7 query heads, or one of them with the KV head.
  using T = AccumulatorOf<TypeParam>;
  Random random(6);
  const Index group = 7, num_kv_heads = 2, q_len = 20, kv_len = 600;
  const AttentionInput<T, TypeParam> input{
      .q = random_tensor<T>(random, {1, q_len, group * num_kv_heads, 33}),
      .k = random_tensor<TypeParam>(random, {1, kv_len, num_kv_heads, 33}),
      .v = random_tensor<TypeParam>(random, {1, kv_len, num_kv_heads, 40})};
  const auto together = run(input, input.cache(), Causal{});
  for (Index h = 0; h < group * num_kv_heads; ++h) {
    AttentionResult<T, T> alone({1, q_len, 1, 40});
    attend(input.q.view().heads_slice(h, 1), input.k.view().heads_slice(h / group, 1),
           input.v.view().heads_slice(h / group, 1), alone.out.view(), Causal{},
           {.lse = alone.lse_view()}, one_thread);
    for (Index i = 0; i < q_len; ++i) {
      ASSERT_TRUE(same_row(together, 0, i, h, alone, 0, i, 0)) << i << ", " << h;
    }
  }
}

TEST(DeterminismOfScores, FloatingPointRulesGiveTheSameBitsOnEveryPath) {
  // Rules with arithmetic that a compiler may contract into fused operations, one way or another.
  Random random(7);
  const Index num_heads = 6, tokens = 530;
  const AttentionInput<float, float> input{
      .q = random_tensor<float>(random, {1, tokens, num_heads, 32}),
      .k = random_tensor<float>(random, {1, tokens, 2, 32}),
      .v = random_tensor<float>(random, {1, tokens, 2, 32})};
  std::vector<float> table(static_cast<std::size_t>(32 * num_heads)), sinks(num_heads);
  for (float& x : table) x = static_cast<float>(random.normal());
  for (float& x : sinks) x = static_cast<float>(random.normal());
  const auto check = [&](const auto& rules, const char* name) {
    SCOPED_TRACE(name);
    const auto whole = run(input, input.cache(), rules);
    EXPECT_TRUE(same_bits(in_chunks(input, rules, {1}, 1), whole));
    EXPECT_TRUE(same_bits(in_chunks(input, rules, {37, 64, 5}, 3), whole));
    EXPECT_TRUE(same_bits(run(input, input.rows_kv(), rules, 2), whole));
  };
  const RelativeBias relative{.table = table, .num_heads = num_heads};
  check(Causal{} & SoftCap{5.0f} & relative & SinkLogits{sinks},
        "SoftCap, RelativeBias, SinkLogits");
  check(Causal{} & Alibi::standard(num_heads) & score_function([](auto x, const Where& w) {
          return x * decltype(x)(1.25) + decltype(x)(0.37) * static_cast<decltype(x)>(w.k_pos % 7);
        }),
        "Alibi, score_function");
}

TEST(DeterminismOfHeads, StaticAndDynamicHeadsGiveTheSameBits) {
  Random random(8);
  AttentionCase c{
      .group = 4, .num_kv_heads = 2, .q_len = 3, .kv_len = 100, .head_dim = 32, .value_dim = 32};
  const auto input = make_input<float, float>(c, random);
  KvCache<float, Gqa<8, 2, 32>> cache({.capacity = 100});
  cache.append(input.k.view(), input.v.view());
  EXPECT_TRUE(same_bits(run(input, cache, Causal{}), run(input, input.cache(), Causal{})));
}

/// Keys and values of an input in a paged cache whose pages lie in memory in disorder.
template <Scalar Query, Scalar Storage>
PagedKvCache<Storage> shuffled_pages(const AttentionInput<Query, Storage>& input,
                                     Index page_tokens) {
  const Heads<> heads(input.q.shape().heads, input.k.shape().heads, input.k.shape().dim,
                      input.v.shape().dim);
  using Cache = PagedKvCache<Storage>;
  const Index pages = ceil_div(input.k.shape().tokens, page_tokens);
  Cache cache(
      std::make_shared<PageAllocator>(PageAllocator::Options{
          .pages = 2 * pages, .page_bytes = Cache::page_bytes(heads, page_tokens)}),
      {.batch = 2, .capacity = pages * page_tokens, .page_tokens = page_tokens, .heads = heads});
  for (Index t = 0; t < input.k.shape().tokens; ++t) {  // every second page is sequence 1's
    for (Index b = 0; b < 2; ++b) {
      cache.append(b, input.k.view().tokens_slice(t, 1), input.v.view().tokens_slice(t, 1));
    }
  }
  return cache;
}

TYPED_TEST(Determinism, ReadingAStreamGivesTheSameBits) {
  Workspace in_memory;
  in_memory.set_working_set(std::size_t{1} << 40);
  for (Index group = 1; group <= few_rows + 1; ++group) {
    for (const Index dim : {64, 33}) {
      AttentionCase c{
          .group = group, .num_kv_heads = 2, .kv_len = 1700, .head_dim = dim, .value_dim = dim};
      SCOPED_TRACE(to_string(c));
      Random random(static_cast<std::uint64_t>(group));
      const auto input = make_input<AccumulatorOf<TypeParam>, TypeParam>(c, random);
      const auto stream = [&](const auto& source, Index threads) {
        return attend_over<AccumulatorOf<TypeParam>>(input, source, Causal{}, TestExecutor{threads},
                                                     Layout::dense, &in_memory);
      };
      const auto cache = input.cache();
      const auto expected = run(input, cache, Causal{});
      for (const Index threads : {1, 3}) {
        EXPECT_TRUE(same_bits(stream(cache, threads), expected)) << threads;
        if constexpr (std::same_as<TypeParam, float>) {  // for one type, to spare time
          for (const Index page_tokens : {64, 256, 512}) {
            const auto pages = shuffled_pages(input, page_tokens);
            const Index first = 0;
            EXPECT_TRUE(same_bits(stream(select(pages, std::span(&first, 1)), threads), expected))
                << threads << ", pages of " << page_tokens;
          }
        }
      }
    }
  }
}

TEST(DeterminismOfHeads, AHeadOfALargeCacheHasTheBitsOfTheHeadAlone) {
  // Few rows over more than large_kv_bytes take another way through a block.
  Random random(9);
  const Index tokens = 3301, dim = 64, num_kv_heads = 32;
  const auto make = [&](Index heads, Index count) {
    return random_tensor<float>(random, {1, count, heads, dim});
  };
  const auto repeat = [&](const TestTensor<float>& heads) {
    const TensorShape shape = heads.shape();
    TestTensor<float> all({1, shape.tokens, num_kv_heads * shape.heads, dim});
    for (Index t = 0; t < shape.tokens; ++t) {
      for (Index h = 0; h < num_kv_heads * shape.heads; ++h) {
        std::copy_n(heads.view().row(0, t, h % shape.heads), dim, all.view().row(0, t, h));
      }
    }
    return all;
  };
  AttentionInput<float, float> one{.q = {}, .k = make(1, tokens), .v = make(1, tokens)};
  AttentionInput<float, float> many{.q = {}, .k = repeat(one.k), .v = repeat(one.v)};
  for (const Index group : {1, 4}) {
    one.q = make(group, 1);
    many.q = repeat(one.q);
    const auto cache = many.cache();
    ASSERT_GT(cache.bytes(), large_kv_bytes);
    const auto expected = run(one, one.cache(), Causal{});
    for (const Index threads : {1, 3}) {
      const auto result = run(many, cache, Causal{}, threads);
      for (Index h = 0; h < num_kv_heads * group; ++h) {
        const float* const row = result.out.view().row(0, 0, h);
        EXPECT_TRUE(std::equal(row, row + dim, expected.out.view().row(0, 0, h % group))) << h;
      }
    }
  }
}

}  // namespace
}  // namespace gqa::test
