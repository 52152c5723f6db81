// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A sequence without its middle is what it would be had the middle never been there: keys as if
// rotary embedding had turned them to where they stand now, values bit by bit.
#include "gqa/module/context_shift.hpp"

#include <gtest/gtest.h>

#include <new>

#include "cache/any_cache.hpp"
#include "cache/failing_new.hpp"
#include "gqa/core/eigen.hpp"
#include "support/errors.hpp"

namespace gqa::test {
namespace {

constexpr Index num_kv_heads = 2, head_dim = 12, value_dim = 5;

CacheShape shape_of(Index batch) {
  return {.batch = batch,
          .heads = {4, num_kv_heads, head_dim, value_dim},
          .capacity = 300,
          .window = 200,
          .spare = 150};
}
RopeConfig rope_config() { return {.theta = 100, .style = RopeStyle::rotate_half}; }

/// Tokens without positions.
template <typename T>
struct Tokens {
  TestTensor<T> k, v;

  explicit Tokens(Index count, std::uint64_t seed = 1)
      : k({1, count, num_kv_heads, head_dim}), v({1, count, num_kv_heads, value_dim}) {
    Random random(seed);
    k.fill_normal(random);
    v.fill_normal(random);
  }
  /// Without tokens [begin, end).
  Tokens without(Index begin, Index end) const {
    Tokens left(k.shape().tokens - (end - begin));
    for (Index t = 0; t < left.k.shape().tokens; ++t) {
      const Index from = t < begin ? t : t + end - begin;
      for (Index h = 0; h < num_kv_heads; ++h) {
        std::copy_n(k.row(0, from, h), head_dim, left.k.row(0, t, h));
        std::copy_n(v.row(0, from, h), value_dim, left.v.row(0, t, h));
      }
    }
    return left;
  }
  template <typename Cache>
  void append_to(Cache& cache, Index sequence, const RopeTable<T>& rope) const {
    TestTensor<T> turned = k;
    apply_rope(rope, turned.view(), RopePositions(0));
    for (Index t = 0; t < k.shape().tokens; t += 100) {  // a ring takes no more at once
      const Index count = std::min(Index{100}, k.shape().tokens - t);
      cache.append(sequence, turned.view().tokens_slice(t, count), v.view().tokens_slice(t, count));
    }
  }
};

template <typename T, typename Cache>
Tokens<T> read_back(const Cache& cache, Index sequence) {
  Tokens<T> tokens(cache.length(sequence));
  cache.read(sequence, tokens.k.view(), tokens.v.view());
  return tokens;
}

/// How far numbers of size 1 may be off, of a row whose largest is `largest`: what they were stored
/// as, turned and stored again; twice what one rounding may do, as the other side is rounded, too.
template <typename Storage>
double tolerance(double largest) {
  if (std::same_as<Storage, Int8>) return 2 * largest / 127;
  if (std::same_as<Storage, Int4>) return 2 * largest / 3.5;  // the largest may be cut off
  const double eps = std::same_as<Storage, double>     ? 0x1p-52
                     : std::same_as<Storage, float>    ? 0x1p-23
                     : std::same_as<Storage, bfloat16> ? 0x1p-7
                                                       : 0x1p-10;
  // Three angles of up to 200 radians, each right to half of its last bit.
  return (4 * eps + 3 * 200 * 0x1p-53) * largest;
}

template <typename P>
class ContextShift : public testing::Test {};
template <typename KindT, typename StorageT>
struct Pair {
  using Kind = KindT;
  using Storage = StorageT;
};
using Pairs = testing::Types<Pair<FixedKind, float>, Pair<FixedKind, double>, Pair<RingKind, half>,
                             Pair<RingKind, bfloat16>, Pair<PagedKind<64>, float>,
                             Pair<PagedKind<192>, Int8>, Pair<FixedKind, Int4>>;
TYPED_TEST_SUITE(ContextShift, Pairs);

TYPED_TEST(ContextShift, IsAsIfTheSpanHadNeverBeenThere) {
  using Storage = typename TypeParam::Storage;
  using T = AccumulatorOf<Storage>;
  const RopeTable<T> rope(rope_config(), head_dim);
  struct Span {
    Index length, begin, end;
  };
  for (const Span s : {Span{200, 4, 100},
                       {200, 0, 1},
                       {200, 64, 128},
                       {200, 150, 200},
                       {66, 1, 65},
                       {200, 63, 63},
                       {200, 0, 200}}) {
    auto cache = TypeParam::Kind::template make<Storage>(shape_of(2));
    auto fresh = TypeParam::Kind::template make<Storage>(shape_of(1));
    const Tokens<T> tokens(s.length), others(70, 2);
    tokens.append_to(cache, 1, rope);
    others.append_to(cache, 0, rope);
    const auto bystander = read_back<T>(cache, 0);
    drop_tokens(cache, 1, s.begin, s.end, rope);
    tokens.without(s.begin, s.end).append_to(fresh, 0, rope);

    const auto actual = read_back<T>(cache, 1), expected = read_back<T>(fresh, 0);
    ASSERT_EQ(actual.k.shape(), expected.k.shape());
    for (Index t = 0; t < actual.k.shape().tokens; ++t) {
      for (Index h = 0; h < num_kv_heads; ++h) {
        const T* row = expected.k.row(0, t, h);
        const double largest = largest_of(row, head_dim);
        for (Index c = 0; c < head_dim; ++c) {
          ASSERT_NEAR(actual.k.row(0, t, h)[c], row[c], tolerance<Storage>(largest * 1.5))
              << s.begin << " " << s.end << " " << t;
        }
        for (Index c = 0; c < value_dim; ++c) {
          const T value = expected.v.row(0, t, h)[c];
          if constexpr (is_quantized<Storage>) {  // the scale may be a last bit off
            ASSERT_NEAR(actual.v.row(0, t, h)[c], value, 1e-6);
          } else {
            ASSERT_EQ(actual.v.row(0, t, h)[c], value);
          }
        }
      }
    }
    EXPECT_TRUE(same_bits(read_back<T>(cache, 0).k.storage(), bystander.k.storage()));
    // And on from there.
    others.append_to(cache, 1, rope);
    EXPECT_EQ(cache.length(1), s.length - (s.end - s.begin) + 70);
  }
}

TEST(ContextShiftOfScaledRope, DoesntScaleKeysTwice) {
  RopeConfig config = rope_config();
  config.scaling = YarnRopeScaling{.factor = 4, .original_max_position_embeddings = 64};
  const RopeTable<float> rope(config, head_dim);
  ASSERT_GT(rope.attention_factor(), 1.1);
  auto cache = FixedKind::make<float>(shape_of(1)), fresh = FixedKind::make<float>(shape_of(1));
  const Tokens<float> tokens(100);
  tokens.append_to(cache, 0, rope);
  drop_tokens(cache, 0, 10, 60, rope);
  tokens.without(10, 60).append_to(fresh, 0, rope);
  const auto actual = read_back<float>(cache, 0), expected = read_back<float>(fresh, 0);
  for (Index c = 0; c < head_dim; ++c) {
    EXPECT_NEAR(actual.k.row(0, 30, 1)[c], expected.k.row(0, 30, 1)[c], 4e-6) << c;
  }
}

/// The tokens of sequence 0 from `first` on, exactly: an integer times a float is a double.
template <typename Cache>
Tokens<double> exactly(const Cache& cache, Index first, Index end) {
  Tokens<double> tokens(end - first);
  cache.read(0, first, tokens.k.view(), tokens.v.view());
  return tokens;
}

template <typename Storage>
class MovedTokens : public testing::Test {};
using Storages = testing::Types<float, double, bfloat16, half, Int8, Int4>;
TYPED_TEST_SUITE(MovedTokens, Storages);

TYPED_TEST(MovedTokens, KeepEveryBit) {
  using T = AccumulatorOf<TypeParam>;
  const auto run = [](auto cache) {
    for (Index seed = 1; seed <= 20; ++seed) {
      cache.clear();
      const Tokens<T> tokens(150, static_cast<std::uint64_t>(seed));
      cache.append(Index{0}, tokens.k.view(), tokens.v.view());
      const Index begin = seed * 3, end = begin + 1 + seed * seed % 70, left = 150 - end + begin;
      const auto before = exactly(cache, 0, begin), kept = exactly(cache, end, 150);
      drop_tokens(cache, 0, begin, end);
      ASSERT_EQ(cache.length(0), left);
      const auto after = exactly(cache, 0, begin), moved = exactly(cache, begin, left);
      ASSERT_TRUE(same_bits(moved.k.storage(), kept.k.storage())) << seed;
      ASSERT_TRUE(same_bits(moved.v.storage(), kept.v.storage())) << seed;
      ASSERT_TRUE(same_bits(after.k.storage(), before.k.storage())) << seed;
      ASSERT_TRUE(same_bits(after.v.storage(), before.v.storage())) << seed;
    }
  };
  run(FixedKind::make<TypeParam>(shape_of(1)));
  run(RingKind::make<TypeParam>(shape_of(1)));
  run(PagedKind<64>::make<TypeParam>(shape_of(1)));
}

TYPED_TEST(MovedTokens, KeepEveryBitOfTheirValuesWhereKeysAreTurned) {
  using T = AccumulatorOf<TypeParam>;
  const RopeTable<T> rope(rope_config(), head_dim);
  auto cache = FixedKind::make<TypeParam>(shape_of(1));
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    cache.clear();
    const Tokens<T> tokens(150, seed);
    tokens.append_to(cache, 0, rope);
    const auto kept = exactly(cache, 50, 150);
    for (Index begin = 40; begin >= 0; begin -= 10) {  // again and again
      drop_tokens(cache, 0, begin, begin + 10, rope);
      const auto moved = exactly(cache, begin, begin + 100);
      ASSERT_TRUE(same_bits(moved.v.storage(), kept.v.storage())) << seed << " " << begin;
    }
  }
}

TYPED_TEST(MovedTokens, KeepWhatTheyAreWhereTheyAreNotFinite) {
  using T = AccumulatorOf<TypeParam>;
  auto cache = FixedKind::make<TypeParam>(shape_of(1));
  Tokens<T> tokens(100);
  tokens.k.row(0, 80, 1)[3] = std::numeric_limits<T>::quiet_NaN();
  tokens.v.row(0, 81, 0)[3] = std::numeric_limits<T>::infinity();
  cache.append(0, tokens.k.view(), tokens.v.view());
  const auto kept = exactly(cache, 70, 100);
  drop_tokens(cache, 0, 10, 70);
  const auto moved = exactly(cache, 10, 40);
  EXPECT_TRUE(same_bits(moved.k.storage(), kept.k.storage()));
  EXPECT_TRUE(same_bits(moved.v.storage(), kept.v.storage()));
}

TEST(ContextShiftOfARing, MovesAsManyTokensAsItHasToSpare) {
  auto shape = shape_of(1);
  shape.spare = 3;
  auto ring = RingKind::make<Int4>(shape);
  auto all = FixedKind::make<Int4>(shape_of(1));
  for (int i = 0; i < 40; ++i) {
    const Tokens<float> more(3, static_cast<std::uint64_t>(i));
    ring.append(0, more.k.view(), more.v.view());
    all.append(0, more.k.view(), more.v.view());
  }
  drop_tokens(ring, 0, 117, 118);
  drop_tokens(all, 0, 117, 118);
  EXPECT_TRUE(
      same_bits(read_back<float>(ring, 0).k.storage(), read_back<float>(all, 0).k.storage()));
  EXPECT_TRUE(
      same_bits(read_back<float>(ring, 0).v.storage(), read_back<float>(all, 0).v.storage()));
}

TEST(ContextShiftWithoutRope, MovesKeysAsTheyAre) {
  auto cache = RingKind::make<bfloat16>(shape_of(1)), fresh = RingKind::make<bfloat16>(shape_of(1));
  const Tokens<float> tokens(100), left = tokens.without(5, 70);
  cache.append(0, tokens.k.view(), tokens.v.view());
  fresh.append(0, left.k.view(), left.v.view());
  drop_tokens(cache, 0, 5, 70);
  EXPECT_TRUE(
      same_bits(read_back<float>(cache, 0).k.storage(), read_back<float>(fresh, 0).k.storage()));
}

TEST(ContextShiftOfPages, SharesWhatComesBeforeAndLeavesForksAlone) {
  const RopeTable<float> rope(rope_config(), head_dim);
  auto cache = PagedKind<64>::make<float>(shape_of(2));  // 12 pages
  const Tokens<float> tokens(256);
  tokens.append_to(cache, 0, rope);
  cache.fork(0, 1);
  const auto before = read_back<float>(cache, 1);
  drop_tokens(cache, 0, 128, 160, rope);
  EXPECT_TRUE(same_bits(read_back<float>(cache, 1).k.storage(), before.k.storage()));
  EXPECT_EQ(cache.allocator()->statistics().used, 4 + 2);
  EXPECT_EQ(cache.allocator()->statistics().shared, 2);
  // No page left: nothing happens.
  std::vector<PagedKvCache<float>> hogs;
  while (cache.allocator()->statistics().free > 0) {
    hogs.emplace_back(cache.allocator(),
                      PagedKvCache<float>::Options{.capacity = 1, .heads = cache.heads()});
    hogs.back().reserve(0, 1);
  }
  const auto full = read_back<float>(cache, 0);
  EXPECT_EQ(error_of<std::length_error>([&] { drop_tokens(cache, 0, 3, 64, rope); }),
            "PageAllocator: 1 pages are needed, 0 of 12 are free");
  EXPECT_TRUE(same_bits(read_back<float>(cache, 0).k.storage(), full.k.storage()));
}

TEST(ContextShiftOutOfMemory, ChangesNothing) {
  const RopeTable<float> rope(rope_config(), head_dim);
  const Tokens<float> tokens(200);
  const auto run = [&](auto cache) {
    tokens.append_to(cache, 1, rope);
    const auto before = read_back<float>(cache, 1);
    for (long n = 0;; ++n) {
      fail_allocation(n);
      bool failed = false;
      try {
        drop_tokens(cache, 1, 70, 90, rope);
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      fail_allocation(-1);
      if (!failed) {
        EXPECT_GT(n, 3);
        break;
      }
      ASSERT_TRUE(same_bits(read_back<float>(cache, 1).k.storage(), before.k.storage())) << n;
    }
    EXPECT_EQ(cache.length(1), 180);
  };
  run(GrowingKind::make<float>(shape_of(2)));
  run(RingKind::make<float>(shape_of(2)));
  run(PagedKind<64>::make<float>(shape_of(2)));
}

TEST(ContextShiftErrors, NameTheNumbersAndChangeNothing) {
  const RopeTable<float> rope(rope_config(), head_dim);
  auto cache = FixedKind::make<float>(shape_of(2));
  const Tokens<float> tokens(30);
  tokens.append_to(cache, 1, rope);
  EXPECT_EQ(error_of([&] { drop_tokens(cache, 1, 5, 31, rope); }),
            "drop_tokens: tokens [5, 31) are outside of [0, 30) (sequence 1)");
  EXPECT_EQ(error_of([&] { drop_tokens(cache, 1, 5, 4); }),
            "drop_tokens: tokens [5, 4) are outside of [0, 30) (sequence 1)");
  EXPECT_EQ(error_of([&] { drop_tokens(cache, 2, 0, 0); }),
            "KvCache::length: sequence 2 is outside of a batch of 2");
  EXPECT_EQ(error_of([&] { drop_tokens(cache, 1, 5, 6, RopeTable<float>(rope_config(), 8)); }),
            "drop_tokens: the cache has head_dim 12, the RopeTable 8");
  RopeConfig dynamic = rope_config();
  dynamic.scaling = DynamicNtkRopeScaling{.factor = 2, .max_position_embeddings = 64};
  EXPECT_EQ(error_of([&] { drop_tokens(cache, 1, 5, 6, RopeTable<float>(dynamic, head_dim)); }),
            "drop_tokens: with dynamic NTK scaling, keys can't be moved");
  const std::vector<float> table(6 * 9, 1.0f);
  const auto given = RopeTable<float>::from_tables(table.data(), table.data(), 9, head_dim,
                                                   head_dim, RopeStyle::interleaved);
  EXPECT_EQ(error_of([&] { drop_tokens(cache, 1, 5, 5, given); }),
            "position -1 is outside of the given cos and sin tables, which have 9 rows");
  EXPECT_EQ(cache.length(1), 30);
  // A ring that would have to go back behind what it has forgotten.
  auto shape = shape_of(1);
  shape.window = 10;
  shape.spare = 40;
  auto ring = RingKind::make<float>(shape);
  for (int i = 0; i < 9; ++i) {
    const Tokens<float> more(30, static_cast<std::uint64_t>(i));
    ring.append(0, more.k.view(), more.v.view());
  }
  EXPECT_NE(error_of<std::length_error>([&] { drop_tokens(ring, 0, 100, 120, rope); }),
            "no exception");
  EXPECT_NE(error_of<std::length_error>([&] { drop_tokens(ring, 0, 150, 260, rope); }),
            "no exception");
  EXPECT_EQ(ring.length(0), 270);
}

}  // namespace
}  // namespace gqa::test
