// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Numbers near the ends of their type's range: attend() and reference() agree on every finite
// score, up to the largest; and on values, as far as the bounds that README states. Compiled for
// several instruction sets.
#include <gtest/gtest.h>

#include "support/attention_case.hpp"
#include "support/errors.hpp"
#include "support/isa.hpp"

namespace gqa::test {
namespace {

constexpr Index num_heads = 6, num_kv_heads = 2, head_dim = 8, value_dim = 24;
constexpr float lowest = std::numeric_limits<float>::lowest();
constexpr float largest = std::numeric_limits<float>::max();
constexpr float no_sink = -std::numeric_limits<float>::infinity();
constexpr float least = std::numeric_limits<float>::min();

using Tokens = std::pair<TestTensor<float>, TestTensor<float>>;
Tokens random_tokens(Index count, std::uint64_t seed = 1) {
  Random random(seed);
  return {random_tensor<float>(random, {1, count, num_kv_heads, head_dim}),
          random_tensor<float>(random, {1, count, num_kv_heads, value_dim})};
}
template <typename Storage>
KvCache<Storage> cache_of(const Tokens& tokens) {
  KvCache<Storage> cache({.capacity = tokens.first.shape().tokens,
                          .heads = {num_heads, num_kv_heads, head_dim, value_dim}});
  cache.append(tokens.first.view(), tokens.second.view());
  return cache;
}

/// attend() of one and of three threads against reference(), with the same types.
template <typename Query, typename Source, typename RulesT>
void expect_as_reference(const TestTensor<Query>& q, const Source& kv, const RulesT& rules,
                         double out_tolerance, double lse_tolerance, const std::string& what) {
  using T = AccumulatorOf<Query>;
  const TensorShape shape{1, q.shape().tokens, num_heads, value_dim};
  AttentionResult<T, T> expected(shape);
  ReferenceOptions<T> options;
  options.lse = expected.lse_view();
  reference(q.view(), kv, expected.out.view(), rules, options);
  for (const Index threads : {1, 3}) {
    AttentionResult<T, T> actual(shape);
    attend(q.view(), kv, actual.out.view(), rules, {.lse = actual.lse_view()},
           TestExecutor{threads});
    Comparison out(message(what, ", out")), lse(message(what, ", lse"));
    for (Index i = 0; i < shape.tokens; ++i) {
      for (Index h = 0; h < num_heads; ++h) {
        const auto where = [&] { return message("[0, ", i, ", ", h, "]"); };
        for (Index c = 0; c < value_dim; ++c) {
          out.add(actual.out.row(0, i, h)[c], expected.out.row(0, i, h)[c], out_tolerance, where);
        }
        const auto r = static_cast<std::size_t>(h * shape.tokens + i);
        const double exact = expected.lse[r];
        lse.add(actual.lse[r], exact, lse_tolerance * (1 + std::abs(exact)), where);
      }
    }
    out.expect_all();
    lse.expect_all();
  }
}

const std::vector<float> none(num_heads, no_sink);

/// Scores of each query and key, whatever these are; of double, in the same part of its range.
struct GivenScores {
  std::vector<float> scores;
  bool of_double = false;

  template <typename T>
  T score(T, const Where& at) const {
    const auto n = std::ssize(scores);
    const T score = scores[static_cast<std::size_t>((at.k_index + 7 * at.q_index + at.head) % n)];
    return of_double ? score / T(largest) * static_cast<T>(std::numeric_limits<double>::max())
                     : score;
  }
};

struct NamedScores {
  const char* name;
  std::vector<float> scores;
};
std::vector<NamedScores> extreme_scores() {
  std::vector<NamedScores> all{
      {"the lowest", {lowest}},
      {"-2.5e38", {-2.5e38f}},
      {"the largest", {largest}},
      {"the lowest but for one", std::vector<float>(600, lowest)},
      {"-3e38 and -2.5e38", {-3e38f, -2.5e38f, -3e38f, -3e38f}},
      {"the lowest and -2.4e38", {lowest, -2.4e38f, lowest, lowest, lowest}},
      {"3e38 and 2.5e38", {2.5e38f, 3e38f, 2.5e38f, 3e38f, -3e38f}},
      {"lowest and ordinary", {lowest, 1, lowest, 2, 3, lowest, -1}},
      {"lowest and largest", {lowest, largest, lowest}},
      {"from -2.3e38 on", {}},
      {"of any size", {}}};
  all[3].scores[500] = -2.6e38f;
  Random random(3);
  for (int i = 0; i < 900; ++i) {
    all[9].scores.push_back(-2.3e38f - 1e35f * static_cast<float>(i));
    const double size = std::pow(10.0, -38 + 76.5 * random.uniform());
    all[10].scores.push_back(static_cast<float>(random.chance(0.5) ? size : -size));
  }
  return all;
}

template <typename Storage>
class Extremes : public testing::Test {
 protected:
  void SetUp() override { GQA_TEST_SKIP_FOREIGN_ISA(); }
  /// Of ordinary values, by what the kernel rounds weights to.
  static constexpr double tolerance = std::same_as<Storage, double>     ? 1e-13
                                      : std::same_as<Storage, bfloat16> ? 1e-2
                                      : is_quantized<Storage>           ? 4e-2
                                                                        : 1e-5;
  static constexpr double lse_tolerance = std::same_as<Storage, double>     ? 1e-15
                                          : std::same_as<Storage, bfloat16> ? 2e-3
                                                                            : 3e-7;
};
using Storages = testing::Types<float, double, bfloat16, half, Int8, Int4>;
TYPED_TEST_SUITE(Extremes, Storages);

TYPED_TEST(Extremes, EveryFiniteScoreIsTakenAsWhatItIs) {
  using T = AccumulatorOf<TypeParam>;
  constexpr bool of_double = std::same_as<T, double>;
  for (const auto& [name, scores] : extreme_scores()) {
    for (const Index q_len : {1, 9}) {
      for (const Index kv_len : {5, 70, emulated ? 600 : 1100}) {
        const auto cache = cache_of<TypeParam>(random_tokens(kv_len));
        const TestTensor<T> q({1, q_len, num_heads, head_dim});
        expect_as_reference(q, cache, GivenScores{scores, of_double} & SinkLogits{none},
                            TestFixture::tolerance, TestFixture::lse_tolerance,
                            message(name, " ", q_len, " ", kv_len));
      }
    }
  }
}

TYPED_TEST(Extremes, SinkLogitsMayBeOfAnySizeAsWell) {
  using T = AccumulatorOf<TypeParam>;
  const std::vector<float> sinks{lowest, largest, -2.5e38f, 2.5e38f, 0, no_sink};
  for (const auto& [name, scores] : extreme_scores()) {
    const auto cache = cache_of<TypeParam>(random_tokens(600));
    const TestTensor<T> q({1, 2, num_heads, head_dim});
    expect_as_reference(q, cache, GivenScores{scores} & SinkLogits{sinks}, TestFixture::tolerance,
                        TestFixture::lse_tolerance, name);
  }
}

TYPED_TEST(Extremes, ProductsOfQueriesAndKeysMayBeOfAnySizeAsWell) {
  using T = AccumulatorOf<TypeParam>;
  // All keys the same: what a row gives is the mean of the values, however large its score.
  Tokens tokens = random_tokens(1100);
  tokens.first.fill(0);
  for (Index t = 0; t < 1100; ++t) {
    for (Index h = 0; h < num_kv_heads; ++h) tokens.first.row(0, t, h)[2] = 1;
  }
  const auto cache = cache_of<TypeParam>(tokens);
  for (const float size : {lowest, -2.5e38f, -1e30f, 1e30f, 2.5e38f, largest}) {
    TestTensor<T> q({1, 2, num_heads, head_dim});
    for (Index i = 0; i < 2; ++i) {
      for (Index h = 0; h < num_heads; ++h) q.row(0, i, h)[2] = size;
    }
    // Rounded as bfloat16 or integers, the largest numbers are larger yet.
    const bool rounds = std::same_as<TypeParam, bfloat16> || is_quantized<TypeParam>;
    if (rounds && std::abs(size) == largest) continue;
    const double rounding = rounds ? 1e-2 : 3e-6;
    expect_as_reference(q, cache, as_rules(Scale{1}), TestFixture::tolerance, rounding,
                        message(size));
    expect_as_reference(q, cache, Causal{} & Scale{1} & Alibi::standard(num_heads),
                        TestFixture::tolerance, rounding, message(size, " with a bias"));
  }
}

/// Weights times values become integers of 8 bits; of which size the values are doesn't matter.
TYPED_TEST(Extremes, ValuesMayBeAsSmallAsTheirStorageHoldsThem) {
  using T = AccumulatorOf<TypeParam>;
  constexpr Index kv_len = 600;
  const std::vector<float> scores{0, -1, -3, 1, 0.5f, -8, 2};
  for (float size = 1e-30f; size > 1e-39f; size /= 10) {
    // All values of this size; or of half of the keys only, in blocks of their own or not.
    for (const Index part : {1, 2, 100}) {
      Tokens tokens = random_tokens(kv_len);
      for (Index t = 0; t < kv_len; ++t) {
        for (Index h = 0; h < num_kv_heads; ++h) {
          float* v = tokens.second.row(0, t, h);
          for (Index c = 0; c < value_dim; ++c) v[c] *= part > 1 && t / part % 2 ? 0 : size;
        }
      }
      const TestTensor<T> q({1, 2, num_heads, head_dim});
      // Pairs of bfloat16 are multiplied without denormal numbers: README.
      const double flushed = std::same_as<TypeParam, bfloat16> ? kv_len * double{least} : 0;
      const double denormal = std::same_as<T, float> ? 0x1p-149 : 0;
      expect_as_reference(q, cache_of<TypeParam>(tokens), GivenScores{scores} & SinkLogits{none},
                          TestFixture::tolerance * double{size} + flushed + denormal,
                          TestFixture::lse_tolerance, message("1e", std::log10(size), " ", part));
    }
  }
}

/// Sums of them are infinite, but not their mean.
TYPED_TEST(Extremes, ValuesMayBeAsLargeAsTheirStorageHoldsThem) {
  using T = AccumulatorOf<TypeParam>;
  const auto most = static_cast<double>(
      Eigen::NumTraits<std::conditional_t<is_quantized<TypeParam>, float, TypeParam>>::highest());
  const std::vector<float> sinks{no_sink, 0, -3, 5, 50, -50};
  for (const std::vector<float>& scores :
       {std::vector<float>{0}, {0, 1, -2, 5}, {100, -100, 101}, {-3e5f, -3e5f, -3e6f}}) {
    for (const Index kv_len : {5, 70, emulated ? 600 : 1100}) {
      for (const double part : {1.0, 0.97, 0.1, 1e-3}) {
        // The reference, in double, and integers times their scale may be a last bit larger.
        if (part == 1 && (std::same_as<T, double> || is_quantized<TypeParam>)) continue;
        Random random(5);
        TestTensor<T> k({1, kv_len, num_kv_heads, head_dim}),
            v({1, kv_len, num_kv_heads, value_dim});
        for (Index t = 0; t < kv_len; ++t) {
          for (Index h = 0; h < num_kv_heads; ++h) {
            // One channel of the largest, one with both signs, others ordinary or anything.
            for (Index c = 0; c < value_dim; ++c) {
              const double x = c == 0   ? 1
                               : c == 1 ? (t % 2 == 0 ? 1 : -1)
                               : c < 8  ? random.normal() / most
                                        : 2 * random.uniform() - 1;
              v.row(0, t, h)[c] = static_cast<T>(x * part * most);
            }
          }
        }
        KvCache<TypeParam> cache(
            {.capacity = kv_len, .heads = {num_heads, num_kv_heads, head_dim, value_dim}});
        cache.append(k.view(), v.view());
        for (const Index q_len : {1, 9}) {
          const TestTensor<T> q({1, q_len, num_heads, head_dim});
          expect_as_reference(q, cache, GivenScores{scores} & SinkLogits{sinks},
                              TestFixture::tolerance * part * most, TestFixture::lse_tolerance,
                              message(part, " of the largest, ", kv_len, " ", q_len));
        }
      }
    }
  }
}

/// One head of one row whose products with a key's integers are all the largest: 255 · 127, of
/// which sums of 32 bits hold 66,311.
TEST(ExtremesOfHeadDim, LongKeysOfIntegersAreExactUpToTheBound) {
  GQA_TEST_SKIP_FOREIGN_ISA();
  for (const Index long_dim : {Index{40'000}, Index{66'308}, Index{66'311}}) {
    TestTensor<float> q({1, 1, 1, long_dim}), k({1, 3, 1, long_dim}), v({1, 3, 1, 1});
    for (Index c = 0; c < long_dim; ++c) {
      q.row(0, 0, 0)[c] = 1;
      k.row(0, 0, 0)[c] = 1;
      k.row(0, 1, 0)[c] = -1;
      k.row(0, 2, 0)[c] = c % 2 == 0 ? 1.0f : 0.5f;
    }
    for (Index j = 0; j < 3; ++j) v.row(0, j, 0)[0] = static_cast<float>(j);
    KvCache<Int8> cache({.capacity = 3, .heads = {1, 1, long_dim, 1}});
    cache.append(k.view(), v.view());
    for (const float sign : {1.0f, -1.0f}) {
      for (Index c = 0; c < long_dim; ++c) q.row(0, 0, 0)[c] = sign;
      AttentionResult<float, float> actual({1, 1, 1, 1}), expected({1, 1, 1, 1});
      ReferenceOptions<float> options;
      options.lse = expected.lse_view();
      const Scale scale{1 / static_cast<double>(long_dim)};
      attend(q.view(), cache, actual.out.view(), scale, {.lse = actual.lse_view()});
      reference(q.view(), cache, expected.out.view(), scale, options);
      // Where integers are summed in float, what any sum in float may be off by.
      const double rounding = 4 * 0x1p-24 * std::sqrt(static_cast<double>(long_dim));
      constexpr bool in_floats = std::same_as<simd::Factor<Int8, Product::scores>, float>;
      EXPECT_NEAR(actual.lse[0], expected.lse[0], in_floats ? rounding : 1e-5)
          << long_dim << " " << sign;
      EXPECT_NEAR(actual.out.row(0, 0, 0)[0], expected.out.row(0, 0, 0)[0], 0.01) << long_dim;
    }
  }
}

/// Somebody's own source of integers, which no cache of ours has checked.
struct LongKeys {
  using Storage = Int8;
  static constexpr KvLayout layout = KvLayout::strips;
  Index dim;

  Index batch() const { return 1; }
  Index num_kv_heads() const { return 1; }
  Index head_dim() const { return dim; }
  Index value_dim() const { return 1; }
  Index length(Index) const { return 0; }
  template <typename F>
  void for_each_run(Index, Index, Index, Index, F) const {}
};

TEST(ExtremesOfHeadDim, BeyondTheBoundIntegersAreRefusedWithIt) {
  using Cache8 = KvCache<Int8>;
  using Cache4 = KvCache<Int4>;
  EXPECT_EQ(error_of<std::length_error>([] {
              Cache8({.capacity = 1, .heads = {1, 1, 66'312, 1}});
            }),
            "KvCache: head_dim 66312 exceeds 66311, beyond which sums of int8 products may exceed "
            "32 bits");
  EXPECT_EQ(error_of<std::length_error>([] {
              Cache4({.capacity = 1, .heads = {1, 1, 1'127'289, 1}});
            }),
            "KvCache: head_dim 1127289 exceeds 1127288, beyond which sums of int4 products may "
            "exceed 32 bits");
  using Ring = RingKvCache<Int8>;
  EXPECT_NE(error_of<std::length_error>([] {
              Ring({.window = 8, .heads = {2, 1, 133'000, 8}});
            }),
            "no exception");
  const TestTensor<float> q({1, 1, 1, 66'312});
  TestTensor<float> out({1, 1, 1, 1});
  const auto refuse = [&](auto attention) {
    return error_of<std::length_error>([&] { attention(q.view(), LongKeys{66'312}, out.view()); });
  };
  EXPECT_EQ(refuse([](auto... x) { attend(x..., NoMask{}); }),
            "attend: head_dim 66312 exceeds 66311, beyond which sums of int8 products may exceed "
            "32 bits");
  EXPECT_NE(refuse([](auto... x) { reference(x..., NoMask{}); }), "no exception");
  // Of other numbers, any head_dim.
  KvCache<float> cache({.capacity = 1, .heads = {1, 1, 70'000, 1}});
  EXPECT_EQ(cache.head_dim(), 70'000);
}

}  // namespace
}  // namespace gqa::test
