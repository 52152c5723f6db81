// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What attend(), reference() and RowsKv refuse: with both numbers, and without a write to out or
// lse.
#include "support/errors.hpp"

#include <gtest/gtest.h>

#include "support/attention_check.hpp"

namespace gqa::test {
namespace {

/// A call that is right, to be made wrong in one thing.
struct Call {
  TensorShape q{2, 3, 4, 8}, k{2, 10, 2, 8}, v{2, 10, 2, 6}, out{2, 3, 4, 6};
  std::array<Index, 3> lse{2, 4, 3};
  std::vector<Index> lengths = {}, q_lens = {}, positions = {};
};

/// The error of attend(), which reference() must give, too, under its own name.
template <typename RulesT = Causal>
std::string error(const Call& c, const RulesT& rules = {}) {
  const TestTensor<float> q(c.q), k(c.k), v(c.v);
  AttentionResult<float, float> result(c.out);
  std::vector<float> lse(1000, -1);
  const auto before = result.out.storage();
  const LseView<float> lse_view(lse.data(), c.lse[0], c.lse[1], c.lse[2]);
  const std::string of_attend = error_of([&] {
    attend(q.view(), RowsKv<float>(k.view(), v.view(), c.lengths), result.out.view(), rules,
           {.lse = lse_view, .q_lens = c.q_lens, .positions = c.positions});
  });
  const std::string of_reference = error_of([&] {
    ReferenceOptions<float> options;
    options.lse = lse_view;
    options.q_lens = c.q_lens;
    options.positions = c.positions;
    reference(q.view(), RowsKv<float>(k.view(), v.view(), c.lengths), result.out.view(), rules,
              options);
  });
  EXPECT_TRUE(same_bits(result.out.storage(), before)) << of_attend;
  EXPECT_EQ(lse, std::vector<float>(1000, -1)) << of_attend;
  const std::string name = "attend";
  EXPECT_EQ(of_reference,
            of_attend.starts_with(name) ? "reference" + of_attend.substr(name.size()) : of_attend);
  return of_attend;
}

TEST(AttendErrors, ARightCallIsNone) {
  const TestTensor<float> q(Call().q), k(Call().k), v(Call().v);
  TestTensor<float> out(Call().out);
  EXPECT_EQ(error_of([&] { attend(q.view(), k.view(), v.view(), out.view(), Causal{}); }),
            "no exception");
}

TEST(AttendErrors, ShapesOfKeysAndValues) {
  EXPECT_EQ(error({.k = {3, 10, 2, 8}, .v = {3, 10, 2, 6}}),
            "attend: the keys' batch is 3, but the queries' is 2");
  EXPECT_EQ(error({.k = {2, 10, 2, 7}}), "attend: the keys' head_dim is 7, but the queries' is 8");
  EXPECT_EQ(error({.k = {2, 10, 3, 8}, .v = {2, 10, 3, 6}}),
            "attend: num_kv_heads 3 does not divide num_heads 4");
  EXPECT_EQ(error({.k = {2, 10, 8, 8}, .v = {2, 10, 8, 6}}),
            "attend: num_kv_heads 8 does not divide num_heads 4");
  EXPECT_EQ(error({.k = {2, 10, 0, 8}, .v = {2, 10, 0, 6}}),
            "attend: num_heads 4 and num_kv_heads 0 must be positive");
  EXPECT_EQ(error({.q = {2, 3, 4, 0}, .k = {2, 10, 2, 0}}),
            "attend: head_dim 0 and value_dim 6 must be positive");
  EXPECT_EQ(error({.v = {2, 10, 2, 0}, .out = {2, 3, 4, 0}}),
            "attend: head_dim 8 and value_dim 0 must be positive");
  EXPECT_EQ(error({.v = {2, 9, 2, 6}}), "RowsKv: keys are [2, 10, 2, 8], values [2, 9, 2, 6]");
  EXPECT_EQ(error({.v = {1, 10, 2, 6}}), "RowsKv: keys are [2, 10, 2, 8], values [1, 10, 2, 6]");
  EXPECT_EQ(error({.v = {2, 10, 1, 6}}), "RowsKv: keys are [2, 10, 2, 8], values [2, 10, 1, 6]");
}

TEST(AttendErrors, ShapeOfOut) {
  for (const TensorShape& wrong :
       {TensorShape{1, 3, 4, 6}, {2, 2, 4, 6}, {2, 3, 2, 6}, {2, 3, 4, 8}}) {
    EXPECT_EQ(error({.out = wrong}), message("attend: out is ", wrong, ", expected [2, 3, 4, 6]"));
  }
}

TEST(AttendErrors, ShapeOfLse) {
  EXPECT_EQ(error({.lse = {3, 4, 3}}), "attend: lse's batch is 3, but the queries' is 2");
  EXPECT_EQ(error({.lse = {2, 3, 4}}), "attend: lse's num_heads is 3, but the queries' is 4");
  EXPECT_EQ(error({.lse = {2, 4, 1}}), "attend: lse's q_len is 1, but the queries' is 3");
}

TEST(AttendErrors, LengthsAndPositions) {
  EXPECT_EQ(error({.lengths = {10}}), "RowsKv: 1 lengths for a batch of 2");
  EXPECT_EQ(error({.lengths = {10, 11}}), "RowsKv: a length of 11 is outside of [0, 10]");
  EXPECT_EQ(error({.lengths = {-1, 10}}), "RowsKv: a length of -1 is outside of [0, 10]");
  EXPECT_EQ(error({.q_lens = {3, 3, 3}}), "attend: the number of q_lens is 3, but the batch is 2");
  EXPECT_EQ(error({.q_lens = {3, 4}}), "attend: a q_len of 4 is outside of [0, 3]");
  EXPECT_EQ(error({.q_lens = {-1, 3}}), "attend: a q_len of -1 is outside of [0, 3]");
  EXPECT_EQ(error({.positions = {0, 1, 2}}),
            "attend: the number of positions is 3, but batch * q_len is 6");
}

TEST(AttendErrors, RulesThatDoNotFit) {
  EXPECT_EQ(error({}, Alibi::standard(8)), "Alibi has 8 slopes for num_heads 4");
  const std::vector<float> logits(3);
  EXPECT_EQ(error({}, NoMask{} & SinkLogits{logits}), "SinkLogits has 3 logits for num_heads 4");
  Eigen::Tensor<bool, 2, Eigen::RowMajor> mask(2, 10);
  EXPECT_EQ(error({}, DenseMask{mask}), "DenseMask has q_len 2, expected 3 or 1");
}

TEST(AttendErrors, TheSameOverACache) {
  KvCache<float> cache({.batch = 2, .capacity = 10, .heads = {4, 2, 8, 6}});
  const TestTensor<float> q({2, 3, 6, 8}), narrow({2, 3, 4, 4}), one({1, 3, 4, 8}),
      odd({2, 3, 5, 8});
  TestTensor<float> out({2, 3, 6, 6});
  const auto error = [&](const auto& queries) {
    return error_of([&] { attend(queries.view(), cache, out.view(), Causal{}); });
  };
  EXPECT_EQ(error(narrow), "attend: the keys' head_dim is 8, but the queries' is 4");
  EXPECT_EQ(error(one), "attend: the keys' batch is 2, but the queries' is 1");
  EXPECT_EQ(error(odd), "attend: num_kv_heads 2 does not divide num_heads 5");
  // The cache knows its KV heads; how many query heads share them is the queries' business.
  EXPECT_EQ(error(q), "no exception");
}

TEST(AttendErrors, KeysThatTakeMoreThanMemoryWhenTheyArePacked) {
  // 2^57 tokens that are all the same one, which a prompt's queries pack for all of them.
  const float row[8] = {};
  const TensorView<const float> keys(row, {1, Index{1} << 57, 2, 8}, {});
  const TestTensor<float> q({1, 200, 4, 8});
  TestTensor<float> out(q.shape());
  const auto before = out.storage();
  EXPECT_EQ(error_of<std::length_error>(
                [&] { attend(q.view(), rows_kv(keys, keys), out.view(), NoMask{}); }),
            "keys and values packed for attend: 1 x 2 x 2251799813685248 x 6144 bytes are more "
            "than 63 bits count");
  EXPECT_TRUE(same_bits(out.storage(), before));
}

}  // namespace
}  // namespace gqa::test
