// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/cache/contiguous.hpp"

#include <gtest/gtest.h>

#include "cache_memory.hpp"
#include "support/attention_check.hpp"

namespace gqa::test {
namespace {

constexpr Index num_kv_heads = 2, head_dim = 19, value_dim = 35;

template <typename Storage>
KvCache<Storage> make_cache(Index batch, Index capacity) {
  return KvCache<Storage>(
      {.batch = batch, .capacity = capacity, .heads = {4, num_kv_heads, head_dim, value_dim}});
}

/// What a cache should hold, token by token.
template <typename Storage>
struct Model {
  struct Token {
    std::vector<Storage> key, value;  // [num_kv_heads, head_dim], [num_kv_heads, value_dim]
    friend bool operator==(const Token&, const Token&) = default;
  };
  std::vector<std::vector<Token>> sequences;

  template <typename T>
  void append(Index sequence, const TestTensor<T>& k, const TestTensor<T>& v, Index from,
              Index count) {
    for (Index t = 0; t < count; ++t) {
      Token token;
      for (Index h = 0; h < num_kv_heads; ++h) {
        for (Index c = 0; c < head_dim; ++c)
          token.key.push_back(convert<Storage>(k.row(from, t, h)[c]));
        for (Index c = 0; c < value_dim; ++c)
          token.value.push_back(convert<Storage>(v.row(from, t, h)[c]));
      }
      sequences[static_cast<std::size_t>(sequence)].push_back(std::move(token));
    }
  }

  /// Everything that the cache holds is what it should, and behind it there are zeros.
  template <typename Cache>
  void expect_equal(const Cache& cache) const {
    for (Index b = 0; b < cache.batch(); ++b) {
      const auto& expected = sequences[static_cast<std::size_t>(b)];
      ASSERT_EQ(cache.length(b), std::ssize(expected));
      TestTensor<Storage> k({1, cache.length(b), num_kv_heads, head_dim}, Layout::gaps);
      TestTensor<Storage> v({1, cache.length(b), num_kv_heads, value_dim}, Layout::heads_first);
      cache.read(b, k.view(), v.view());
      for (Index t = 0; t < cache.length(b); ++t) {
        Token token;
        for (Index h = 0; h < num_kv_heads; ++h) {
          token.key.insert(token.key.end(), k.row(0, t, h), k.row(0, t, h) + head_dim);
          token.value.insert(token.value.end(), v.row(0, t, h), v.row(0, t, h) + value_dim);
        }
        ASSERT_EQ(token, expected[static_cast<std::size_t>(t)])
            << "sequence " << b << ", token " << t;
      }
    }
  }
};

template <typename Storage>
class Contiguous : public testing::Test {};
using Storages = testing::Types<float, double, bfloat16, half>;
TYPED_TEST_SUITE(Contiguous, Storages);

TYPED_TEST(Contiguous, HoldsWhatAnySeriesOfOperationsLeaves) {
  using Storage = TypeParam;
  Random random(1);
  auto cache = make_cache<Storage>(3, 300);
  Model<Storage> model{{{}, {}, {}}};
  for (int step = 0; step < 150; ++step) {
    const Index sequence = random.integer(0, 2), length = cache.length(sequence);
    switch (random.integer(0, 6)) {
      case 0:
      case 1: {  // one sequence, from any layout
        const Index n = random.integer(0, std::min<Index>(300 - length, 100));
        const auto layout = random.pick(std::vector(all_layouts.begin(), all_layouts.end()));
        const auto k = random_tensor<float>(random, {1, n, num_kv_heads, head_dim}, 1, layout);
        const auto v = random_tensor<float>(random, {1, n, num_kv_heads, value_dim}, 1, layout);
        if constexpr (std::same_as<Storage, double>) {
          cache.append(sequence, k.template to<double>().view(), v.template to<double>().view());
        } else {
          cache.append(sequence, k.view(), v.view());
        }
        model.append(sequence, k, v, 0, n);
        break;
      }
      case 2:
      case 3: {  // all of them, some or all of the tokens
        std::vector<Index> counts;
        Index most = 0;
        for (Index b = 0; b < 3; ++b) {
          counts.push_back(random.integer(0, std::min<Index>(300 - cache.length(b), 70)));
          most = std::max(most, counts.back());
        }
        const auto k = random_tensor<Storage>(random, {3, most, num_kv_heads, head_dim});
        const auto v = random_tensor<Storage>(random, {3, most, num_kv_heads, value_dim});
        cache.append(k.view(), v.view(), counts);
        for (Index b = 0; b < 3; ++b) model.append(b, k, v, b, counts[static_cast<std::size_t>(b)]);
        break;
      }
      case 4: {
        const Index to = random.integer(0, length);
        cache.truncate(sequence, to);
        model.sequences[static_cast<std::size_t>(sequence)].resize(static_cast<std::size_t>(to));
        break;
      }
      case 5: {
        const Index to =
            random.integer(0, std::min({cache.length(0), cache.length(1), cache.length(2)}));
        cache.truncate_all(to);
        for (auto& tokens : model.sequences) tokens.resize(static_cast<std::size_t>(to));
        break;
      }
      case 6:
        if (random.chance(0.3)) {
          cache.clear(sequence);
          model.sequences[static_cast<std::size_t>(sequence)].clear();
        }
        break;
    }
    model.expect_equal(cache);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TYPED_TEST(Contiguous, TruncateIsAnExactRollback) {
  using Storage = TypeParam;
  Random random(2);
  for (const Index kept : {0, 1, 31, 32, 63, 64, 65, 130}) {
    for (const Index dropped : {1, 5, 64, 100}) {
      auto cache = make_cache<Storage>(2, 250);
      const auto k = random_tensor<Storage>(random, {2, kept, num_kv_heads, head_dim});
      const auto v = random_tensor<Storage>(random, {2, kept, num_kv_heads, value_dim});
      cache.append(k.view(), v.view());
      const CacheMemory before(cache);
      TestTensor<Storage> poison_k({2, dropped, num_kv_heads, head_dim});
      TestTensor<Storage> poison_v({2, dropped, num_kv_heads, value_dim});
      poison_k.fill(TestTensor<Storage>::nan);
      poison_v.fill(TestTensor<Storage>::nan);
      cache.append(poison_k.view(), poison_v.view());
      EXPECT_FALSE(CacheMemory(cache) == before);
      cache.truncate(1, kept);
      cache.truncate(0, kept);
      EXPECT_TRUE(CacheMemory(cache) == before) << kept << ", " << dropped;
    }
  }
}

TYPED_TEST(Contiguous, ClearLeavesNothingBehind) {
  using Storage = TypeParam;
  Random random(3);
  auto cache = make_cache<Storage>(2, 100);
  const CacheMemory empty(cache);
  EXPECT_TRUE(std::all_of(empty.bytes.begin(), empty.bytes.end(),
                          [](std::byte b) { return b == std::byte{0}; }));
  const auto k = random_tensor<Storage>(random, {2, 100, num_kv_heads, head_dim});
  const auto v = random_tensor<Storage>(random, {2, 100, num_kv_heads, value_dim});
  cache.append(k.view(), v.view());
  cache.clear();
  EXPECT_TRUE(CacheMemory(cache) == empty);
}

TYPED_TEST(Contiguous, PiecesMakeTheSameCacheAsTheWhole) {
  using Storage = TypeParam;
  Random random(4);
  const auto k = random_tensor<Storage>(random, {1, 200, num_kv_heads, head_dim});
  const auto v = random_tensor<Storage>(random, {1, 200, num_kv_heads, value_dim});
  auto whole = make_cache<Storage>(1, 200);
  whole.append(k.view(), v.view());
  for (const Index piece : {1, 7, 63, 64, 65}) {
    auto cache = make_cache<Storage>(1, 200);
    for (Index t = 0; t < 200; t += piece) {
      const Index n = std::min(piece, 200 - t);
      cache.append(k.view().tokens_slice(t, n), v.view().tokens_slice(t, n));
    }
    EXPECT_TRUE(CacheMemory(cache) == CacheMemory(whole)) << piece;
  }
}

TEST(ContiguousConversion, RoundsToNearestEvenOnceAtAppend) {
  auto cache = make_cache<bfloat16>(1, 1);
  TestTensor<float> k({1, 1, num_kv_heads, head_dim}), v({1, 1, num_kv_heads, value_dim});
  k.row(0, 0, 0)[0] = 1.00390625f;  // half-way between 1 and 1 + 2^-7: to even
  k.row(0, 0, 0)[1] = 1.01171875f;  // half-way between 1 + 2^-7 and 1 + 2^-6
  k.row(0, 0, 0)[2] = 3.0e38f;
  k.row(0, 0, 0)[3] = -0.0f;
  cache.append(k.view(), v.view());
  TestTensor<double> k_out({1, 1, num_kv_heads, head_dim}), v_out({1, 1, num_kv_heads, value_dim});
  cache.read(0, k_out.view(), v_out.view());
  EXPECT_EQ(k_out.row(0, 0, 0)[0], 1.0);
  EXPECT_EQ(k_out.row(0, 0, 0)[1], 1.015625);
  EXPECT_NEAR(k_out.row(0, 0, 0)[2] / 3.0e38, 1, 0x1p-8);
  EXPECT_TRUE(std::signbit(k_out.row(0, 0, 0)[3]));
}

TEST(ContiguousSize, FollowsFromKvHeadsAlone) {
  const auto bytes = [](Index num_heads, Index kv_heads) {
    return KvCache<float>({.batch = 2, .capacity = 640, .heads = {num_heads, kv_heads, 128}})
        .bytes();
  };
  EXPECT_EQ(bytes(32, 32), Index{2} * 640 * 32 * 256 * 4);
  EXPECT_EQ(bytes(32, 8) * 4, bytes(32, 32));
  EXPECT_EQ(bytes(32, 1) * 32, bytes(32, 32));
  EXPECT_EQ(KvCache<bfloat16>({.batch = 2, .capacity = 640, .heads = {32, 32, 128}}).bytes() * 2,
            bytes(32, 32));
  const KvCache<half> cache({.capacity = 10, .heads = {4, 2, 33, 7}});
  EXPECT_EQ(cache.bytes_per_token(), 2 * (33 + 7) * 2);
  EXPECT_EQ(cache.bytes(), 2 * 64 * (33 + 16) * 2);  // whole blocks, V padded to 16 channels
  EXPECT_EQ(cache.capacity(), 10);
}

TEST(ContiguousSize, CapacityOfZeroIsEmpty) {
  KvCache<float> cache({.capacity = 0, .heads = {2, 1, 8}});
  EXPECT_EQ(cache.bytes(), 0);
  const TestTensor<float> nothing({1, 0, 1, 8});
  cache.append(nothing.view(), nothing.view());
  EXPECT_EQ(cache.length(0), 0);
}

TEST(ContiguousHeads, StaticOnesNeedNoArgument) {
  const KvCache<float, Gqa<8, 2, 16, 24>> cache({.capacity = 5});
  EXPECT_EQ(cache.num_kv_heads(), 2);
  EXPECT_EQ(cache.head_dim(), 16);
  EXPECT_EQ(cache.value_dim(), 24);
  EXPECT_EQ(cache.heads().group(), 4);
}

TEST(ContiguousRuns, AreWholeBlocksInOrder) {
  Random random(5);
  auto cache = make_cache<float>(2, 300);
  const auto k = random_tensor<float>(random, {2, 200, num_kv_heads, head_dim});
  const auto v = random_tensor<float>(random, {2, 200, num_kv_heads, value_dim});
  cache.append(k.view(), v.view());
  const StripLayout<float> layout(head_dim, value_dim);
  for (const auto& [begin, end] : std::vector<std::pair<Index, Index>>{
           {0, 200}, {0, 64}, {64, 200}, {128, 130}, {192, 200}, {0, 0}}) {
    Index next = begin;
    cache.for_each_run(1, 1, begin, end, [&](const StripRun& run) {
      EXPECT_EQ(run.first, next);
      EXPECT_EQ(run.first % block_keys, 0);
      for (Index i = 0; i < run.count; ++i) {
        std::vector<float> key(head_dim);
        const auto* block =
            reinterpret_cast<const float*>(run.blocks) + i / 64 * layout.block_elements();
        get_token(layout, block, i % 64, key.data(), static_cast<float*>(nullptr));
        EXPECT_TRUE(std::equal(key.begin(), key.end(), k.row(1, run.first + i, 1)));
      }
      next += run.count;
    });
    EXPECT_EQ(next, end);
  }
}

TEST(ContiguousReuse, AttentionSeesNothingOfTruncatedAndClearedTokens) {
  Random random(6);
  AttentionInput<float, float> input{
      .q = random_tensor<float>(random, {1, 3, 4, head_dim}),
      .k = random_tensor<float>(random, {1, 100, num_kv_heads, head_dim}),
      .v = random_tensor<float>(random, {1, 100, num_kv_heads, value_dim})};
  const auto fresh = attend_over(input, input.cache(200), Causal{});
  auto cache = make_cache<float>(1, 300);
  TestTensor<float> poison_k({1, 150, num_kv_heads, head_dim}),
      poison_v({1, 150, num_kv_heads, value_dim});
  poison_k.fill(TestTensor<float>::nan);
  poison_v.fill(TestTensor<float>::nan);
  cache.append(poison_k.view(), poison_v.view());
  cache.clear();
  cache.append(input.k.view().tokens_slice(0, 70), input.v.view().tokens_slice(0, 70));
  cache.append(poison_k.view(), poison_v.view());
  cache.truncate_all(70);
  cache.append(input.k.view().tokens_slice(70, 30), input.v.view().tokens_slice(70, 30));
  EXPECT_TRUE(same_bits(attend_over(input, cache, Causal{}), fresh));
}

TEST(ContiguousMove, KeepsTheContents) {
  Random random(7);
  auto cache = make_cache<float>(2, 100);
  const auto k = random_tensor<float>(random, {2, 90, num_kv_heads, head_dim});
  const auto v = random_tensor<float>(random, {2, 90, num_kv_heads, value_dim});
  cache.append(k.view(), v.view());
  const CacheMemory before(cache);
  const KvCache<float> moved(std::move(cache));
  EXPECT_TRUE(CacheMemory(moved) == before);
  static_assert(!std::is_copy_constructible_v<KvCache<float>>);  // copies of this size are named
}

}  // namespace
}  // namespace gqa::test
