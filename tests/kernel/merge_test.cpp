// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Attention over parts of the keys, merged, is attention over all of them.
#include <gtest/gtest.h>

#include "support/attention_case.hpp"
#include "support/errors.hpp"

namespace gqa::test {
namespace {

template <typename T>
LseView<const T> const_lse(const AttentionResult<T, T>& r) {
  return {r.lse.data(), r.out.shape().batch, r.out.shape().heads, r.out.shape().tokens};
}

/// Keys [begin, end) of an input, their positions kept.
AttentionResult<float, float> part_of(const AttentionInput<float, float>& input, Index begin,
                                      Index end, const auto& rules) {
  const auto inside =
      mask_function([=](const Where& w) { return w.k_index >= begin && w.k_index < end; });
  return attend_over(input, input.rows_kv(), erase_masks(rules & inside), TestExecutor{1});
}

TEST(MergeStates, OfDisjointKeysIsAllOfThem) {
  Random random(1);
  const AttentionCase c{.group = 2,
                        .num_kv_heads = 2,
                        .q_len = 5,
                        .kv_len = 90,
                        .head_dim = 16,
                        .value_dim = 12,
                        .batch = 2};
  const auto input = make_input<float, float>(c, random);
  const Expected expected = expect_attention(input, erase_masks(Causal{}));
  for (const auto& borders : std::vector<std::vector<Index>>{{0, 45, 90},
                                                             {0, 0, 90},
                                                             {0, 90, 90},
                                                             {0, 1, 88, 90},
                                                             {0, 30, 60, 90},
                                                             {0, 86, 87, 88, 89, 90}}) {
    auto merged = part_of(input, borders[0], borders[1], Causal{});
    for (std::size_t i = 1; i + 1 < borders.size(); ++i) {
      const auto part = part_of(input, borders[i], borders[i + 1], Causal{});
      merge_states<float>(merged.out.view(), merged.lse_view(), part.out.view(), const_lse(part));
    }
    expect_close(merged, expected, message("from ", borders[1]));
  }
}

TEST(MergeStates, WithTheEmptyStateChangesNoBit) {
  Random random(2);
  const AttentionCase c{.q_len = 3, .kv_len = 20, .head_dim = 16, .value_dim = 16};
  const auto input = make_input<float, float>(c, random);
  const auto some = part_of(input, 0, 20, Causal{}), none = part_of(input, 0, 0, Causal{});
  auto merged = some;
  merge_states<float>(merged.out.view(), merged.lse_view(), none.out.view(), const_lse(none));
  EXPECT_TRUE(same_bits(merged, some));
  merged = none;
  merge_states<float>(merged.out.view(), merged.lse_view(), some.out.view(), const_lse(some));
  EXPECT_TRUE(same_bits(merged, some));
  merged = none;
  merge_states<float>(merged.out.view(), merged.lse_view(), none.out.view(), const_lse(none));
  EXPECT_TRUE(same_bits(merged, none));  // (-inf) - (-inf) has not become NaN
}

/// A state of one row: `out` in all of its 5 numbers.
AttentionResult<float, float> row_state(float out, float lse) {
  AttentionResult<float, float> state({1, 1, 1, 5});
  state.out.fill(out);
  state.lse = {lse};
  return state;
}
void expect_merged(AttentionResult<float, float> a, const AttentionResult<float, float>& b,
                   float out, float lse, const std::string& what) {
  merge_states<float>(a.out.view(), a.lse_view(), b.out.view(), const_lse(b));
  EXPECT_TRUE(same_bits(a, row_state(out, lse)))
      << what << ": " << a.out.row(0, 0, 0)[4] << ", " << a.lse[0];
}

TEST(MergeStates, DoesNotReadTheOutOfAnEmptyState) {
  const float minus = -std::numeric_limits<float>::infinity();
  for (const float unwritten : {std::numeric_limits<float>::quiet_NaN(), -minus, minus, 7.0f}) {
    for (const float lse : {minus, -minus}) {  // -inf, or +inf as FlashAttention-2 says
      const std::string what = message("out ", unwritten, ", lse ", lse);
      const auto empty = row_state(unwritten, lse), some = row_state(2, 1);
      expect_merged(empty, some, 2, 1, what + ", into it");
      expect_merged(some, empty, 2, 1, what + ", from it");
      expect_merged(empty, row_state(-0.0f, -3e38f), -0.0f, -3e38f, what + ", into it");
      for (const float other : {minus, -minus}) {
        expect_merged(empty, row_state(unwritten, other), 0, minus, what + ", both");
      }
    }
  }
}

TEST(MergeStates, KeepsANanBesideAnEmptyState) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const double lse : {-infinity, infinity}) {
    const auto empty = row_state(3, static_cast<float>(lse)), poison = row_state(nan, nan);
    for (const bool first : {true, false}) {
      auto a = first ? poison : empty;
      const auto& b = first ? empty : poison;
      merge_states<float>(a.out.view(), a.lse_view(), b.out.view(), const_lse(b));
      EXPECT_TRUE(std::isnan(a.lse[0]) && std::isnan(a.out.row(0, 0, 0)[0])) << first;
    }
  }
}

TEST(SoftmaxState, DoesNotReadTheOutOfAnEmptyState) {
  const Index n = simd::Pack<float>::size;
  std::vector<float> some(static_cast<std::size_t>(n), 2.0f);
  std::vector<float> unwritten(some.size(), std::numeric_limits<float>::quiet_NaN());
  SoftmaxState<float> a{.max = 3, .sum = 1.5f}, empty;
  const auto expected = some;
  merge(a, some.data(), empty, unwritten.data(), n);
  EXPECT_EQ(some, expected);
  EXPECT_EQ(a.sum, 1.5f);
  merge(empty, unwritten.data(), a, some.data(), n);
  EXPECT_EQ(unwritten, expected);
  EXPECT_EQ(empty.max, 3);
}

TEST(MergeStates, KeepsAVisibleNan) {
  const auto nan = std::numeric_limits<float>::quiet_NaN();
  for (const bool first : {true, false}) {
    AttentionResult<float, float> a({1, 1, 1, 2}), b({1, 1, 1, 2});
    a.out.fill(1);
    b.out.fill(2);
    a.lse = b.lse = {0.5f};
    (first ? a : b).out.fill(nan);
    (first ? a : b).lse = {nan};
    merge_states<float>(a.out.view(), a.lse_view(), b.out.view(), const_lse(b));
    EXPECT_TRUE(std::isnan(a.lse[0])) << first;
    EXPECT_TRUE(std::isnan(a.out.row(0, 0, 0)[1])) << first;
  }
}

TEST(MergeStates, HoldsForLargeLse) {
  AttentionResult<float, float> a({1, 1, 1, 1}), b({1, 1, 1, 1});
  a.out.fill(1);
  b.out.fill(5);
  a.lse = {-3e4f};
  b.lse = {3e4f};
  merge_states<float>(a.out.view(), a.lse_view(), b.out.view(), const_lse(b));
  EXPECT_EQ(a.out.row(0, 0, 0)[0], 5);
  EXPECT_EQ(a.lse[0], 3e4f);
}

TEST(MergeStates, RefusesOtherShapes) {
  AttentionResult<float, float> a({1, 2, 3, 4}), b({1, 2, 3, 5}), c({1, 3, 3, 4});
  EXPECT_EQ(error_of([&] {
              merge_states<float>(a.out.view(), a.lse_view(), b.out.view(), const_lse(b));
            }),
            "merge_states: out is [1, 2, 3, 4], the other out [1, 2, 3, 5]");
  EXPECT_EQ(error_of([&] {
              merge_states<float>(a.out.view(), c.lse_view(), a.out.view(), const_lse(a));
            }),
            "merge_states: lse is [1, 3, 3] for out [1, 2, 3, 4]");
  EXPECT_EQ(error_of([&] {
              merge_states<float>(a.out.view(), a.lse_view(), a.out.view(), const_lse(c));
            }),
            "merge_states: the other lse is [1, 3, 3] for out [1, 2, 3, 4]");
}

TEST(SoftmaxState, MergesInFloatingPointAsInTheFormula) {
  // max and sum of 2^s over {1, 2} and over {3}.
  SoftmaxState<double> a{.max = 2, .sum = 1.5}, b{.max = 3, .sum = 1};
  alignas(64) double out[8] = {2.0 * 0.5 + 4.0}, other[8] = {8.0};
  merge(a, out, b, other, simd::Pack<double>::size);
  EXPECT_EQ(a.max, 3);
  EXPECT_EQ(a.sum, (2.0 + 4.0 + 8.0) / 8.0);
  EXPECT_EQ(out[0], (2.0 * 2.0 + 4.0 * 4.0 + 8.0 * 8.0) / 8.0);
  EXPECT_NEAR(a.lse(), std::log(14.0), 1e-15);
  EXPECT_EQ(SoftmaxState<float>{}.lse(), -infinity);
  EXPECT_TRUE(SoftmaxState<float>{}.empty());
}

}  // namespace
}  // namespace gqa::test
