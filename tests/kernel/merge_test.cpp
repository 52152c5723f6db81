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
