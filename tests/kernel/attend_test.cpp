// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend() against the reference: every edge of every size, one at a time. The sweeps (sweep_*.cpp)
// combine them.
#include <gtest/gtest.h>

#include "support/attention_check.hpp"

namespace gqa::test {
namespace {

struct Sizes {
  Index batch = 1, q_len = 3, kv_len = 40, group = 4, num_kv_heads = 2, head_dim = 32,
        value_dim = 32;
};

std::string to_string(const Sizes& s) {
  return message("batch ", s.batch, ", q_len ", s.q_len, ", kv_len ", s.kv_len, ", group ", s.group,
                 ", num_kv_heads ", s.num_kv_heads, ", head_dim ", s.head_dim, ", value_dim ",
                 s.value_dim);
}

AttentionInput<float, float> make_input(const Sizes& s) {
  Random random(7);
  return {
      .q = random_tensor<float>(random, {s.batch, s.q_len, s.group * s.num_kv_heads, s.head_dim}),
      .k = random_tensor<float>(random, {s.batch, s.kv_len, s.num_kv_heads, s.head_dim}),
      .v = random_tensor<float>(random, {s.batch, s.kv_len, s.num_kv_heads, s.value_dim})};
}

/// Over rows and over a cache, causal: the simplest rules that hide something.
void check(const Sizes& sizes) {
  const auto input = make_input(sizes);
  const Expected expected = expect_attention(input, Causal{});
  expect_close(attend_over(input, input.rows_kv(), Causal{}), expected,
               to_string(sizes) + ", rows");
  expect_close(attend_over(input, input.cache(), Causal{}), expected, to_string(sizes) + ", cache");
}

TEST(Attend, EqualsReferenceForEveryGroup) {
  for (const Index group : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 24, 32, 64, 71, 97}) {
    for (const Index q_len : {1, 4}) check({.q_len = q_len, .group = group});
  }
}

TEST(Attend, EqualsReferenceForEveryNumberOfQueries) {
  for (const Index q_len : {0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 17, 23, 25, 65, 97, 200}) {
    for (const Index group : {1, 3}) check({.q_len = q_len, .kv_len = 130, .group = group});
  }
}

TEST(Attend, EqualsReferenceForEveryNumberOfKeys) {
  for (const Index kv_len :
       {0,  1,   2,   15,  16,  17,  31,  32,  33,  47,  48,  49,  63,   64,   65,   95,   96,
        97, 127, 128, 129, 191, 192, 193, 511, 512, 513, 577, 640, 1023, 1024, 1025, 1100, 1600}) {
    for (const Index q_len : {1, 6}) check({.q_len = q_len, .kv_len = kv_len});
  }
}

TEST(Attend, EqualsReferenceForEveryHeadDim) {
  for (const Index head_dim :
       {1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 48, 64, 80, 96, 112, 128, 192, 256}) {
    check({.kv_len = 70, .head_dim = head_dim, .value_dim = head_dim});
  }
}

TEST(Attend, EqualsReferenceWhereValueDimDiffers) {
  for (const Index value_dim : {1,  2,  15, 16, 17, 31,  32,  33,  47,  48,  49,  63,
                                64, 65, 80, 96, 97, 112, 128, 129, 144, 160, 192, 256}) {
    for (const Index q_len : {1, 4, 20}) {
      check({.q_len = q_len, .kv_len = 70, .group = 1, .head_dim = 24, .value_dim = value_dim});
    }
  }
}

TEST(Attend, EqualsReferenceForBatches) {
  for (const Index batch : {1, 2, 5}) check({.batch = batch});
}

TEST(Attend, EmptyBatchIsNoWork) {
  const auto input = make_input({.batch = 0});
  EXPECT_TRUE(attend_over(input, input.rows_kv(), Causal{}).lse.empty());
}

}  // namespace
}  // namespace gqa::test
