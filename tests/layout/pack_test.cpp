// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/layout/pack.hpp"

#include <gtest/gtest.h>

#include "gqa/cache/contiguous.hpp"
#include "gqa/core/eigen.hpp"
#include "gqa/kernel/rows_kv.hpp"
#include "support/random.hpp"

namespace gqa::test {
namespace {

template <typename Storage>
class Pack : public testing::Test {};
using Storages = testing::Types<float, double, bfloat16, half>;
TYPED_TEST_SUITE(Pack, Storages);

constexpr Index head_dim = 19, value_dim = 35;

/// A block whose every element, padding included, is 7.
template <typename Storage>
std::vector<Storage> block_of_sevens(const StripLayout<Storage>& layout) {
  return std::vector<Storage>(static_cast<std::size_t>(layout.block_elements()), Storage(7));
}

template <typename Storage>
Index count_of(const std::vector<Storage>& block, float number) {
  return std::count_if(block.begin(), block.end(),
                       [=](Storage x) { return static_cast<float>(x) == number; });
}

TYPED_TEST(Pack, TokensComeBackAndTouchNothingElse) {
  const StripLayout<TypeParam> layout(head_dim, value_dim);
  Random random(1);
  const auto keys = random_tensor<TypeParam>(random, {1, 64, 1, head_dim});
  const auto values = random_tensor<TypeParam>(random, {1, 64, 1, value_dim});
  for (const Index t : {0, 1, 31, 32, 63}) {
    auto block = block_of_sevens(layout);
    put_token(layout, block.data(), t, keys.row(0, t, 0), values.row(0, t, 0));
    std::vector<TypeParam> key(head_dim), value(value_dim);
    get_token(layout, block.data(), t, key.data(), value.data());
    EXPECT_TRUE(std::equal(key.begin(), key.end(), keys.row(0, t, 0)));
    EXPECT_TRUE(std::equal(value.begin(), value.end(), values.row(0, t, 0)));
    EXPECT_EQ(count_of(block, 7), layout.block_elements() - head_dim - value_dim);
  }
}

TYPED_TEST(Pack, StretchesOfTokensAreTheirTokens) {
  const StripLayout<TypeParam> layout(head_dim, value_dim);
  Random random(2);
  const auto keys = random_tensor<TypeParam>(random, {1, 64, 2, head_dim}, 1, Layout::gaps);
  const auto values = random_tensor<TypeParam>(random, {1, 64, 2, value_dim}, 1, Layout::fused);
  for (const auto& [begin, count] : std::vector<std::pair<Index, Index>>{
           {0, 0}, {0, 64}, {5, 1}, {3, 4}, {3, 5}, {20, 30}, {63, 1}}) {
    auto whole = block_of_sevens(layout), one_by_one = whole;
    put_tokens(layout, whole.data(), begin, count, keys.row(0, 0, 1), keys.view().strides().token,
               values.row(0, 0, 1), values.view().strides().token);
    for (Index i = 0; i < count; ++i) {
      put_token(layout, one_by_one.data(), begin + i, keys.row(0, i, 1), values.row(0, i, 1));
    }
    EXPECT_TRUE(same_bits(whole, one_by_one));
  }
}

TYPED_TEST(Pack, ZeroedTokensAreZeroWithTheirPaddingAndOthersStay) {
  const StripLayout<TypeParam> layout(head_dim, value_dim);
  for (const auto& [begin, end] :
       std::vector<std::pair<Index, Index>>{{0, 0}, {0, 64}, {0, 1}, {5, 40}, {63, 64}}) {
    auto block = block_of_sevens(layout);
    zero_tokens(layout, block.data(), begin, end);
    EXPECT_EQ(count_of(block, 0),
              (end - begin) * (layout.padded_head_dim() + layout.padded_value_dim()));
    for (Index t = 0; t < 64; ++t) {
      const float expected = t >= begin && t < end ? 0.0f : 7.0f;
      for (Index c = 0; c < layout.padded_head_dim(); ++c) {
        EXPECT_EQ(static_cast<float>(block[static_cast<std::size_t>(layout.key_offset(t, c))]),
                  expected);
      }
      for (Index c = 0; c < layout.padded_value_dim(); ++c) {
        EXPECT_EQ(static_cast<float>(block[static_cast<std::size_t>(layout.value_offset(t, c))]),
                  expected);
      }
    }
  }
}

TYPED_TEST(Pack, PackedBlockOfRowsIsABlockOfACache) {
  Random random(3);
  const auto keys = random_tensor<TypeParam>(random, {2, 100, 3, head_dim}, 1, Layout::heads_first);
  const auto values = random_tensor<TypeParam>(random, {2, 100, 3, value_dim}, 1, Layout::gaps);
  const RowsKv<TypeParam> rows(keys.view(), values.view());
  KvCache<TypeParam> cache({.batch = 2, .capacity = 100, .heads = {3, 3, head_dim, value_dim}});
  cache.append(keys.view(), values.view());
  const StripLayout<TypeParam> layout(head_dim, value_dim);
  for (Index b = 0; b < 2; ++b) {
    for (Index h = 0; h < 3; ++h) {
      for (const auto& [begin, end] : std::vector<std::pair<Index, Index>>{{0, 64}, {64, 100}}) {
        auto block = block_of_sevens(layout);
        pack_block(rows, b, h, begin, end, layout, block.data());
        cache.for_each_run(b, h, begin, end, [&](const StripRun& run) {
          EXPECT_EQ(0, std::memcmp(run.blocks, block.data(),
                                   static_cast<std::size_t>(layout.block_bytes())));
        });
      }
    }
  }
}

/// A source of strips that has lost its second block.
struct Holed {
  using Storage = float;
  static constexpr KvLayout layout = KvLayout::strips;
  const KvCache<float>& cache;

  Index batch() const { return cache.batch(); }
  Index num_kv_heads() const { return cache.num_kv_heads(); }
  Index head_dim() const { return cache.head_dim(); }
  Index value_dim() const { return cache.value_dim(); }
  Index length(Index b) const { return cache.length(b); }
  template <typename F>
  void for_each_run(Index b, Index kv_head, Index begin, Index end, F&& fn) const {
    for (Index first = begin; first < end; first += block_keys) {
      if (first != 64) cache.for_each_run(b, kv_head, first, std::min(first + block_keys, end), fn);
    }
  }
};

TEST(CopyRows, GivesRowsOfBothLayoutsAndTellsWhatIsMissing) {
  Random random(4);
  const auto keys = random_tensor<float>(random, {1, 150, 2, head_dim});
  const auto values = random_tensor<float>(random, {1, 150, 2, value_dim});
  KvCache<float> cache({.capacity = 150, .heads = {2, 2, head_dim, value_dim}});
  cache.append(keys.view(), values.view());
  const auto check = [&](const auto& source, bool holed) {
    std::vector<double> k(150 * head_dim), v(150 * value_dim);
    bool present[150];
    copy_rows(source, 0, 1, k.data(), v.data(), present);
    for (Index t = 0; t < 150; ++t) {
      EXPECT_EQ(present[t], !(holed && t >= 64 && t < 128)) << t;
      if (!present[t]) continue;
      EXPECT_TRUE(
          std::equal(keys.row(0, t, 1), keys.row(0, t, 1) + head_dim, k.data() + t * head_dim));
      EXPECT_TRUE(std::equal(values.row(0, t, 1), values.row(0, t, 1) + value_dim,
                             v.data() + t * value_dim));
    }
  };
  check(RowsKv<float>(keys.view(), values.view()), false);
  check(cache, false);
  check(Holed{cache}, true);
}

}  // namespace
}  // namespace gqa::test
