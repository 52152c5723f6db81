// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Attention over int8 and int4 keys and values. Queries become integers of one scale per row,
// weights integers of one scale per row and block of 64 keys; sums of integers are exact. So the
// error is bounded by what the two roundings may do, and nothing else is allowed here. Compiled for
// several instruction sets, some with integer dot products and some without.
#include <gtest/gtest.h>

#include <cstring>

#include "support/attention_check.hpp"
#include "support/isa.hpp"

namespace gqa::test {
namespace {

constexpr Index num_heads = 6, num_kv_heads = 2, group = 3, head_dim = 42, value_dim = 24;

/// What the integers of a row go up to: `least` in size for the largest, `most` for any.
template <typename Storage>
inline constexpr int least_top = std::same_as<Storage, Int4> ? 7 : 127;
template <typename Storage>
inline constexpr int most_top = std::same_as<Storage, Int4> ? 8 : 127;

template <typename Storage>
struct Problem {
  TestTensor<float> q, k, v;
  KvCache<Storage> cache;

  explicit Problem(Index q_len, Index kv_len, std::uint64_t seed = 1)
      : q(random({1, q_len, num_heads, head_dim}, seed)),
        k(random({1, kv_len, num_kv_heads, head_dim}, seed + 1)),
        v(random({1, kv_len, num_kv_heads, value_dim}, seed + 2)),
        cache({.capacity = 2 * kv_len, .heads = {num_heads, num_kv_heads, head_dim, value_dim}}) {}

  static TestTensor<float> random(const TensorShape& shape, std::uint64_t seed) {
    Random random(seed);
    return random_tensor<float>(random, shape);
  }
  void append() { cache.append(k.view(), v.view()); }
  auto attend() const { return attend_to(cache); }
  template <typename Source>
  AttentionResult<float, float> attend_to(const Source& source) const {
    AttentionResult<float, float> result({1, q.shape().tokens, num_heads, value_dim});
    gqa::attend(q.view(), source, result.out.view(), Causal{}, {.lse = result.lse_view()});
    return result;
  }
  /// The exact result of what the cache holds.
  AttentionResult<double, double> exact() const {
    const TestTensor<double> queries = q.to<double>();
    AttentionResult<double, double> result({1, q.shape().tokens, num_heads, value_dim});
    ReferenceOptions<double> options;
    options.lse = result.lse_view();
    TestTensor<double> keys(k.shape()), values(v.shape());
    cache.read(0, keys.view(), values.view());
    reference(queries.view(), RowsKv<double>(keys.view(), values.view()), result.out.view(),
              Causal{}, options);
    return result;
  }
};

/// Rounds every row to integers, the largest being `top` in size: its scale is then 1.
void put_on_grid(TestTensor<float>& x, int top) {
  const auto limit = static_cast<float>(top);
  for (Index t = 0; t < x.shape().tokens; ++t) {
    for (Index h = 0; h < x.shape().heads; ++h) {
      float* row = x.row(0, t, h);
      for (Index c = 0; c < x.shape().dim; ++c) {
        row[c] = std::clamp(std::round(row[c] * limit / 6), -limit, limit);
      }
      row[t % x.shape().dim] = t % 2 == 0 ? limit : -limit;
    }
  }
}

/// What rounding may change, of one row: in a score, and in an element of out.
struct Bound {
  double score = 0;
  double out = 0;
};
template <typename Storage>
Bound bound_of(const Problem<Storage>& p, Index i, Index h) {
  const Index kv_len = p.k.shape().tokens, seen = kv_len - p.q.shape().tokens + i + 1;
  TestTensor<double> k(p.k.shape()), v(p.v.shape());
  p.cache.read(0, k.view(), v.view());
  const float* q = p.q.row(0, i, h);
  const double q_step = double{int8_scale(q, head_dim)};
  std::vector<double> weights;
  double sum = 0, largest_value = 0;
  Bound bound;
  for (Index j = 0; j < seen; ++j) {
    const double* key = k.row(0, j, h / group);
    double s = 0, size = 0;
    for (Index c = 0; c < head_dim; ++c) s += double{q[c]} * key[c], size += std::abs(key[c]);
    bound.score = std::max(bound.score, q_step / 2 * size / std::sqrt(double{head_dim}));
    weights.push_back(std::exp(s / std::sqrt(double{head_dim})));
    sum += weights.back();
    for (Index c = 0; c < value_dim; ++c) {
      largest_value = std::max(largest_value, std::abs(v.row(0, j, h / group)[c]));
    }
  }
  // A weight times its value's scale is off by half of 1/255 of the block's largest.
  for (Index begin = 0; begin < seen; begin += 64) {
    double step = 0;
    for (Index j = begin; j < std::min(begin + 64, seen); ++j) {
      double size = 0;
      for (Index c = 0; c < value_dim; ++c) {
        size = std::max(size, std::abs(v.row(0, j, h / group)[c]));
      }
      step = std::max(step, weights[static_cast<std::size_t>(j)] * size / least_top<Storage> / 255);
    }
    bound.out += 0.5 * step * most_top<Storage> * double(std::min<Index>(64, seen - begin)) / sum;
  }
  bound.out += 2 * std::expm1(bound.score) * largest_value;
  return bound;
}

template <typename Storage>
class Quantized : public testing::Test {
 protected:
  void SetUp() override { GQA_TEST_SKIP_FOREIGN_ISA(); }
};
using Storages = testing::Types<Int8, Int4>;
TYPED_TEST_SUITE(Quantized, Storages);

TYPED_TEST(Quantized, ErrorIsThatOfRoundingQueriesAndWeights) {
  for (const Index kv_len : {1, 15, 63, 64, 65, 129, 600}) {
    for (const Index q_len : {1, 2, 40}) {
      if (q_len > kv_len) continue;
      Problem<TypeParam> p(q_len, kv_len);
      p.append();
      const auto actual = p.attend();
      const auto exact = p.exact();
      for (Index i = 0; i < q_len; ++i) {
        for (Index h = 0; h < num_heads; ++h) {
          const Bound bound = bound_of(p, i, h);
          const auto r = static_cast<std::size_t>(h * q_len + i);
          ASSERT_NEAR(actual.lse[r], exact.lse[r], bound.score + 1e-5) << kv_len;
          for (Index c = 0; c < value_dim; ++c) {
            ASSERT_NEAR(actual.out.row(0, i, h)[c], exact.out.row(0, i, h)[c], bound.out + 1e-5)
                << kv_len << " " << q_len << " " << i << " " << h << " " << c;
          }
        }
      }
    }
  }
}

TYPED_TEST(Quantized, ScoresOfIntegersAreExact) {
  Problem<TypeParam> p(40, 200);
  put_on_grid(p.q, 127);
  put_on_grid(p.k, least_top<TypeParam>);
  for (Index i = 0; i < 40; ++i) {  // scores of moderate size
    for (Index h = 0; h < num_heads; ++h) {
      float* row = p.q.row(0, i, h);
      for (Index c = 0; c < head_dim; ++c) row[c] *= 0x1p-10f;
    }
  }
  p.append();
  const auto actual = p.attend();
  const auto exact = p.exact();
  for (std::size_t r = 0; r < exact.lse.size(); ++r) {
    ASSERT_NEAR(actual.lse[r], exact.lse[r], 2e-5) << r;
  }
}

TYPED_TEST(Quantized, MeanOfIntegersIsExact) {
  Problem<TypeParam> p(3, 200);
  p.q.fill(0);  // all weights are the same
  put_on_grid(p.v, least_top<TypeParam>);
  p.append();
  const auto actual = p.attend();
  for (Index i = 0; i < 3; ++i) {
    const Index seen = 198 + i;
    for (Index h = 0; h < num_heads; ++h) {
      ASSERT_NEAR(actual.lse[static_cast<std::size_t>(h * 3 + i)], std::log(double(seen)), 1e-6);
      for (Index c = 0; c < value_dim; ++c) {
        double sum = 0;
        for (Index j = 0; j < seen; ++j) sum += double{p.v.row(0, j, h / group)[c]};
        ASSERT_NEAR(actual.out.row(0, i, h)[c], sum / double(seen), 1e-5);
      }
    }
  }
}

TYPED_TEST(Quantized, WhatIsHiddenChangesNothingAndWhatIsSeenReachesItsRowsOnly) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float poison : {nan, infinity}) {
    for (const bool in_keys : {true, false}) {
      Problem<TypeParam> clean(8, 100), poisoned(8, 100);
      // Token 97 is hidden from queries 0 … 4, which stand at 92 … 96.
      (in_keys ? poisoned.k : poisoned.v).row(0, 97, 1)[3] = poison;
      clean.append();
      poisoned.append();
      const auto expected = clean.attend(), actual = poisoned.attend();
      for (Index i = 0; i < 8; ++i) {
        for (Index h = 0; h < num_heads; ++h) {
          const bool sees = i >= 5 && h / group == 1;
          const float* y = actual.out.row(0, i, h);
          if (sees) {
            for (Index c = 0; c < value_dim; ++c) ASSERT_TRUE(std::isnan(y[c])) << i << " " << h;
          } else {
            ASSERT_EQ(0, std::memcmp(y, expected.out.row(0, i, h), value_dim * sizeof(float)))
                << i << " " << h;
          }
        }
      }
    }
  }
}

TYPED_TEST(Quantized, BitsDontDependOnThreadsOrOnHowAPromptIsCut) {
  Problem<TypeParam> p(150, 1200);
  p.append();
  const auto whole = p.attend();
  // Token by token, the cache growing.
  Problem<TypeParam> step(1, 1200);
  for (Index i = 0; i < 150; i += 7) {
    step.cache.clear();
    step.cache.append(
        TensorView<const float>(p.k.row(0, 0, 0), {1, 1051 + i, num_kv_heads, head_dim}),
        TensorView<const float>(p.v.row(0, 0, 0), {1, 1051 + i, num_kv_heads, value_dim}));
    for (Index h = 0; h < num_heads; ++h) {
      std::copy_n(p.q.row(0, i, h), head_dim, step.q.row(0, 0, h));
    }
    const auto one = step.attend();
    for (Index h = 0; h < num_heads; ++h) {
      ASSERT_EQ(
          0, std::memcmp(one.out.row(0, 0, h), whole.out.row(0, i, h), value_dim * sizeof(float)))
          << i;
    }
  }
}

TYPED_TEST(Quantized, CacheReadsBackWithinHalfAStepAndRollsBackExactly) {
  Problem<TypeParam> p(1, 130);
  p.append();
  TestTensor<float> k(p.k.shape()), v(p.v.shape());
  p.cache.read(0, k.view(), v.view());
  for (Index t = 0; t < 130; ++t) {
    for (Index h = 0; h < num_kv_heads; ++h) {
      const float step = scale_of<TypeParam>(p.k.row(0, t, h), head_dim);
      for (Index c = 0; c < head_dim; ++c) {
        const float x = p.k.row(0, t, h)[c];
        // Of int4, the largest may be cut off.
        const float beyond = std::abs(x) - 0.9999f * least_top<TypeParam> * step;
        ASSERT_NEAR(k.row(0, t, h)[c], x, std::max(0.5001f * step, beyond));
      }
    }
  }
  const auto before = p.attend();
  EXPECT_EQ(p.cache.bytes_per_token(),
            num_kv_heads * ((head_dim + value_dim) / elements_per<TypeParam> + 8));
  p.cache.append(p.k.view(), p.v.view());
  p.cache.truncate_all(130);
  EXPECT_TRUE(same_bits(p.attend(), before));
}

TEST(Int4Scale, CutsOffTheLargestWhereThatCostsLess) {
  const float on_grid[] = {7, -3, 0, 1, -7, 2};
  EXPECT_EQ(int4_scale(on_grid, 6), 1.0f);
  EXPECT_EQ(int4_scale(std::vector<float>{-8, 7, 3, 0}.data(), 4), 1.0f);
  std::vector<float> many_small(1000, 0.5f);
  many_small[3] = 4.5f;
  EXPECT_EQ(int4_scale(many_small.data(), 1000), 0.5f);  // 4.5 becomes 3.5, the others are exact
  for (const float x : many_small) {
    quantize<Int4>(&x, 1, 0.5f, [&](Index, int i) { EXPECT_EQ(i, x == 4.5f ? 7 : 1); });
  }
  const float minus = -4.5f;
  quantize<Int4>(&minus, 1, 0.5f, [&](Index, int i) { EXPECT_EQ(i, -8); });
}

TEST(Int4Scale, IsZeroForNothingAndNanForWhatIsntFinite) {
  for (const float tiny : {0.0f, 1e-45f, 1e-38f, -1e-37f}) {
    EXPECT_EQ(int4_scale(&tiny, 1), 0.0f) << tiny;
  }
  const float large = std::numeric_limits<float>::max();
  EXPECT_EQ(int4_scale(&large, 1), large / 7);
  for (const float x :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    const float row[] = {1, x, 2};
    EXPECT_TRUE(std::isnan(int4_scale(row, 3))) << x;
  }
}

TYPED_TEST(Quantized, RowsOfZerosHaveScaleZero) {
  Problem<TypeParam> p(2, 70);
  p.k.fill(0);
  p.v.fill(0);
  p.append();
  const auto result = p.attend();
  for (Index h = 0; h < num_heads; ++h) {
    for (Index c = 0; c < value_dim; ++c) ASSERT_EQ(result.out.row(0, 1, h)[c], 0.0f);
    ASSERT_NEAR(result.lse[static_cast<std::size_t>(h * 2 + 1)], std::log(70.0), 1e-6);
  }
}

}  // namespace
}  // namespace gqa::test
