// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend_backward() held to reference_backward() over the cases of the forward pass's sweep: every
// mask with every score rule, ragged batches, positions, layouts, groups and awkward sizes.
#include <gtest/gtest.h>

#include "support/attention_case.hpp"
#include "support/gradient_check.hpp"

namespace gqa::test {
namespace {

/// Fewer keys and rows than the forward pass has: five products instead of two, and tolerances.
AttentionCase smaller(AttentionCase c) {
  c.kv_len = std::min<Index>(c.kv_len, 577);
  const auto products = [&c] {
    return c.batch * c.num_kv_heads * c.group * c.q_len * c.kv_len * (c.head_dim + c.value_dim);
  };
  for (Index* size : {&c.batch, &c.num_kv_heads, &c.group}) {
    while (*size > 1 && products() > 6'000'000) --*size;
  }
  return c;
}

template <Scalar T>
double check_gradients(const AttentionCase& c) {
  Random random(c.seed);
  const auto input = make_input<T, T>(c, random);
  RuleFactory factory(c.shape(), random);
  const auto rules = factory.masks_and_scores(
      c.own_scale ? 0.7 * factory.default_scale() : factory.default_scale(), c.mask, c.score);
  auto dout = random_tensor<T>(random, input.out_shape(), 1, c.out_layout);
  for (Index b = 0; b < c.batch; ++b) {  // after the q_lens, anything
    for (Index i = input.q_len(b); i < c.q_len; ++i) {
      for (Index h = 0; h < input.num_heads(); ++h) dout.fill_row(b, i, h, TestTensor<T>::nan);
    }
  }
  auto forward = attend_over<T>(input, input.rows_kv(), rules);
  const auto actual = backward_of(input, dout, forward, rules, TestExecutor{c.threads}, c.q_layout);
  return ExpectedGradients<T>(input, dout, rules).expect_close(actual, to_string(c));
}

template <Scalar T>
class BackwardSweep : public testing::Test {};
using Accumulators = testing::Types<float, double>;
TYPED_TEST_SUITE(BackwardSweep, Accumulators);

TYPED_TEST(BackwardSweep, DesignedCasesAgreeWithTheReference) {
  double worst = 0;
  for (const AttentionCase& c : designed_cases(Types::f32)) {
    worst = std::max(worst, check_gradients<TypeParam>(smaller(c)));
    if (this->HasFailure()) return;
  }
  this->RecordProperty("largest error in tolerances", std::to_string(worst));
  EXPECT_GT(worst, 0.0);
}

TYPED_TEST(BackwardSweep, RandomCasesAgreeWithTheReference) {
  for (const AttentionCase& c : random_cases(Types::f32, 60)) {
    check_gradients<TypeParam>(smaller(c));
    if (this->HasFailure()) return;
  }
}

TEST(BackwardOf16Bits, SumsAreInFloat) {
  Random random(3);
  const AttentionCase c{
      .group = 3, .num_kv_heads = 2, .q_len = 70, .kv_len = 90, .head_dim = 33, .value_dim = 20};
  const auto input = make_input<bfloat16, bfloat16>(c, random);
  RuleFactory factory(c.shape(), random);
  const auto rules = factory.masks_and_scores(0.2, MaskChoice::causal, ScoreChoice::soft_cap);
  // Out and lse of attend() would be those of rounded weights.
  const auto wide = [&] {
    const AttentionInput<float, float> in{input.q.to<float>(), input.k.to<float>(),
                                          input.v.to<float>()};
    return attend_over<float>(in, in.rows_kv(), rules);
  };
  auto forward = wide();
  const auto dout = random_tensor<float>(random, input.out_shape());
  const auto actual = backward_of(input, dout, forward, rules);
  ExpectedGradients<float>(input, dout, rules).expect_close(actual, "bf16 q, k and v");
}

}  // namespace
}  // namespace gqa::test
