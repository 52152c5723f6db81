// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend() over any cache gives the bits that it gives over a KvCache of the same storage type: for
// every head configuration, around every boundary of blocks and pages, after rollbacks, and long
// after a ring has begun to forget.
#include <gtest/gtest.h>

#include "any_cache.hpp"

namespace gqa::test {
namespace {

template <typename KindT, typename StorageT>
struct Pair {
  using Kind = KindT;
  using Storage = StorageT;
};

template <typename P>
class CacheBits : public testing::Test {};
template <typename... Kinds>
struct WithStorages {
  using Types =
      testing::Types<Pair<Kinds, float>..., Pair<Kinds, double>..., Pair<Kinds, bfloat16>...,
                     Pair<Kinds, half>..., Pair<Kinds, Int8>..., Pair<Kinds, Int4>...>;
};
using Pairs = WithStorages<GrowingKind, RingKind, PagedKind<64>, PagedKind<192>>::Types;
struct PairNames {
  template <typename P>
  static std::string GetName(int) {
    return std::string(P::Kind::name) + " of " + scalar_name<typename P::Storage>();
  }
};
TYPED_TEST_SUITE(CacheBits, Pairs, PairNames);

/// A cache and a KvCache, which are given the same.
template <typename P>
struct Twins {
  using Storage = typename P::Storage;
  using T = AccumulatorOf<Storage>;

  Twins(const CacheShape& s, std::uint64_t seed)
      : shape(s),
        random(seed),
        cache(P::Kind::template make<Storage>(s)),
        twin(FixedKind::make<Storage>(s)) {}

  /// Appends counts[b] tokens to each sequence.
  void append(const std::vector<Index>& counts) {
    const Index most = *std::max_element(counts.begin(), counts.end());
    const Heads<>& h = shape.heads;
    const auto k = random_tensor<T>(random, {shape.batch, most, h.num_kv_heads(), h.head_dim()});
    const auto v = random_tensor<T>(random, {shape.batch, most, h.num_kv_heads(), h.value_dim()});
    cache.append(k.view(), v.view(), counts);
    twin.append(k.view(), v.view(), counts);
  }
  void append_all(Index count) {
    for (; count > 0; count -= shape.spare) {
      append(
          std::vector<Index>(static_cast<std::size_t>(shape.batch), std::min(count, shape.spare)));
    }
  }
  void truncate(Index b, Index to) {
    cache.truncate(b, to);
    twin.truncate(b, to);
  }
  void expect_same_bits(const std::vector<Index>& q_lens) {
    const Index most = *std::max_element(q_lens.begin(), q_lens.end());
    const auto q = random_tensor<T>(
        random, {shape.batch, most, shape.heads.num_heads(), shape.heads.head_dim()});
    const auto expected = attend_to(AnySource<Storage>(twin), q, q_lens, shape);
    EXPECT_TRUE(same_bits(attend_to(AnySource<Storage>(cache), q, q_lens, shape), expected))
        << "lengths " << twin.length(0) << ", " << twin.length(shape.batch - 1);
  }

  CacheShape shape;
  Random random;
  typename P::Kind::template Cache<Storage> cache;
  KvCache<Storage> twin;
};

const std::vector<Heads<>>& head_configurations() {
  static const std::vector<Heads<>> all{Heads<>(2, 2, 8), Heads<>(6, 2, 19, 35), Heads<>(5, 1, 40),
                                        Heads<>(12, 1, 16, 48)};
  return all;
}

TYPED_TEST(CacheBits, AroundEveryBoundary) {
  std::uint64_t seed = 1;
  for (const Heads<>& heads : head_configurations()) {
    for (const Index length : {0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129}) {
      Twins<TypeParam> twins(
          {.batch = 2, .heads = heads, .capacity = 300, .window = 40, .keep_first = 3, .spare = 64},
          seed++);
      twins.append_all(length);
      for (const std::vector<Index>& counts :
           {std::vector<Index>{0, 1}, {1, 0}, {1, 1}, {63, 17}}) {
        twins.append(counts);
        twins.expect_same_bits(counts);
      }
    }
  }
}

TYPED_TEST(CacheBits, AfterRollbacks) {
  Random random(7);
  Twins<TypeParam> twins({.batch = 2,
                          .heads = Heads<>(6, 2, 19, 35),
                          .capacity = 1500,
                          .window = 100,
                          .keep_first = 70,
                          .spare = 70},
                         8);
  for (int step = 0; step < 60; ++step) {
    const std::vector<Index> counts{random.integer(0, 40), random.integer(1, 40)};
    twins.append(counts);
    twins.expect_same_bits(counts);
    for (Index b = 0; b < 2; ++b) {
      const Index back = std::min(random.integer(0, 20), counts[static_cast<std::size_t>(b)]);
      twins.truncate(b, twins.twin.length(b) - back);
    }
    twins.expect_same_bits({1, 1});
  }
  EXPECT_GT(twins.twin.length(0), 512);  // several splits
}

TYPED_TEST(CacheBits, WithWindowsOfAnySize) {
  std::uint64_t seed = 100;
  for (const Index window : {1, 2, 63, 64, 65, 130, 600}) {
    for (const Index keep_first : {0, 1, 64, 65}) {
      Twins<TypeParam> twins({.batch = 1,
                              .heads = Heads<>(2, 1, 8),
                              .capacity = 1200,
                              .window = window,
                              .keep_first = keep_first,
                              .spare = 33},
                             seed++);
      for (int step = 0; step < 30; ++step) {
        const Index count = twins.random.integer(1, 33);
        twins.append({count});
        twins.expect_same_bits({count});
      }
      twins.append_all(300);
      twins.expect_same_bits({1});
      twins.expect_same_bits({33});
    }
  }
}

}  // namespace
}  // namespace gqa::test
