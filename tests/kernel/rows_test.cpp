// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Decoding over a user's row-major tensors multiplies keys and values where they lie, 64 keys of
// several KV heads at a time, where shapes allow it: the bits are those of a cache.
#include <gtest/gtest.h>

#include "support/attention_case.hpp"

namespace gqa::test {
namespace {

template <Scalar Storage>
void expect_bits_of_a_cache(const AttentionCase& c, const auto& rules) {
  SCOPED_TRACE(to_string(c));
  Random random(c.seed);
  const auto input = make_input<float, Storage>(c, random);
  const auto from_cache = attend_over<float>(input, input.cache(), rules, TestExecutor{1});
  for (const Index threads : {1, 2, 8}) {
    EXPECT_TRUE(same_bits(attend_over<float>(input, input.rows_kv(), rules, TestExecutor{threads}),
                          from_cache))
        << threads;
  }
}

TEST(Rows, DecodingGivesTheBitsOfACacheForEveryNumberOfRowsOfATile) {
  for (Index rows = 1; rows <= 13; ++rows) {
    expect_bits_of_a_cache<float>(
        {.group = rows, .num_kv_heads = 2, .kv_len = 200, .head_dim = 32, .value_dim = 48},
        Causal{});
  }
}

TEST(Rows, DecodingGivesTheBitsOfACacheForAnyHeadsAndLengths) {
  for (const Index num_kv_heads : {1, 3, 12, 20}) {
    for (const Index kv_len : {64, 577, 1152}) {
      AttentionCase c{.group = 2,
                      .num_kv_heads = num_kv_heads,
                      .q_len = 3,
                      .kv_len = kv_len,
                      .head_dim = 80,
                      .value_dim = 64,
                      .batch = 2};
      c.ragged = Ragged::both;
      expect_bits_of_a_cache<float>(c, Causal{});
    }
  }
}

TEST(Rows, DecodingGivesTheBitsOfACacheForOtherTypesAndOddDimensions) {
  AttentionCase c{.group = 4, .num_kv_heads = 3, .kv_len = 300, .head_dim = 64, .value_dim = 64};
  expect_bits_of_a_cache<bfloat16>(c, Causal{});
  c.head_dim = 36;
  expect_bits_of_a_cache<float>(c, Causal{});
  c.head_dim = 64;
  c.value_dim = 40;
  expect_bits_of_a_cache<float>(c, Causal{});
}

TEST(Rows, DecodingGivesTheBitsOfACacheUnderWindowsAndScoreRules) {
  const AttentionCase c{
      .group = 2, .num_kv_heads = 4, .q_len = 2, .kv_len = 900, .head_dim = 32, .value_dim = 32};
  expect_bits_of_a_cache<float>(
      c, Causal{} & SlidingWindow::from_hf(300) & KeepFirst{4} & Alibi::standard(8));
}

TEST(Rows, WhatIsHiddenDoesNotReachTheResult) {
  Random random(3);
  const AttentionCase c{
      .group = 2, .num_kv_heads = 2, .kv_len = 400, .head_dim = 32, .value_dim = 32};
  auto input = make_input<float, float>(c, random);
  const auto rules = Causal{} & SlidingWindow::from_hf(150);  // the first block whole is 320 … 383
  const auto clean = attend_over<float>(input, input.rows_kv(), rules, TestExecutor{1});
  for (Index key = 0; key < 250; ++key) {
    for (Index h = 0; h < 2; ++h) {
      input.k.view().row(0, key, h)[key % 32] = std::numeric_limits<float>::quiet_NaN();
      input.v.view().row(0, key, h)[key % 32] = std::numeric_limits<float>::infinity();
    }
  }
  EXPECT_TRUE(same_bits(attend_over<float>(input, input.rows_kv(), rules, TestExecutor{1}), clean));
}

TEST(Rows, LayoutsOfTensorsGiveTheSameBits) {
  // Tokens of several heads side by side, in a slice of a wider row, and heads one after another.
  Random random(4);
  const Index kv_len = 320, heads = 4, dim = 32;
  const auto q = random_tensor<float>(random, {1, 1, 8, dim});
  const auto wide = random_tensor<float>(random, {1, kv_len, 3 * heads, dim});
  const auto k = wide.view().heads_slice(heads, heads),
             v = wide.view().heads_slice(2 * heads, heads);
  Eigen::Tensor<float, 4, Eigen::RowMajor> k_first(1, heads, kv_len, dim),
      v_first(1, heads, kv_len, dim);
  for (Index t = 0; t < kv_len; ++t) {
    for (Index h = 0; h < heads; ++h) {
      std::copy_n(k.row(0, t, h), dim, &k_first(0, h, t, 0));
      std::copy_n(v.row(0, t, h), dim, &v_first(0, h, t, 0));
    }
  }
  KvCache<float> cache({.capacity = kv_len, .heads = {8, heads, dim, dim}});
  cache.append(k, v);
  AttentionResult<float, float> expected({1, 1, 8, dim}), sliced({1, 1, 8, dim}),
      first({1, 1, 8, dim});
  attend(q.view(), cache, expected.out.view(), Causal{}, {.lse = expected.lse_view()});
  attend(q.view(), k, v, sliced.out.view(), Causal{}, {.lse = sliced.lse_view()});
  attend(q.view(), heads_first(k_first), heads_first(v_first), first.out.view(), Causal{},
         {.lse = first.lse_view()});
  EXPECT_TRUE(same_bits(sliced, expected));
  EXPECT_TRUE(same_bits(first, expected));
}

}  // namespace
}  // namespace gqa::test
