// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A number that is added to all scores of a row changes neither weights nor gradients, however
// large it is: then lse, a float of that size, no longer tells what the weights' sum is. Scores are
// whole numbers here, and exact with the offset: what is allowed is what is without it.
#include <gtest/gtest.h>

#include "support/attention_case.hpp"
#include "support/gradient_check.hpp"

namespace gqa::test {
namespace {

/// q and k of -1, 0 and 1: with Scale{1}, scores are whole numbers. Of the row's two last channels,
/// one is the offset's root in q and one in k where the products are to have it.
template <Scalar T>
AttentionInput<T, T> whole_numbers(Random& random, const TensorShape& q, Index kv_len,
                                   Index num_kv_heads, Index value_dim) {
  AttentionInput<T, T> input{
      .q = random_tensor<T>(random, q),
      .k = random_tensor<T>(random, {q.batch, kv_len, num_kv_heads, q.dim}),
      .v = random_tensor<T>(random, {q.batch, kv_len, num_kv_heads, value_dim})};
  for (TestTensor<T>* x : {&input.q, &input.k}) {
    x->for_each([&](T& e) { e = static_cast<T>(random.integer(-1, 1)); });
  }
  return input;
}

/// Gradients under rules that add an offset, against those of the rules without it. `offset` is a
/// score rule.
template <Scalar T, typename RulesT, typename Offset>
void expect_no_change(const AttentionInput<T, T>& input, const RulesT& rules, const Offset& offset,
                      const std::string& what) {
  Random random(4);
  const auto dout = random_tensor<T>(random, input.out_shape());
  const auto shifted = rules & offset;
  auto forward = attend_over<T>(input, input.rows_kv(), shifted);
  const auto actual = backward_of(input, dout, forward, shifted);
  ExpectedGradients<T>(input, dout, rules).expect_close(actual, what);
  EXPECT_TRUE(same_bits(backward_of(input, dout, forward, shifted, TestExecutor{3}), actual));
}

template <typename T>
auto add_offset(T number) {
  return score_function([number](auto x, const Where&) { return x + decltype(x)(number); },
                        [](auto x, const Where&) { return decltype(x)(1); });
}

template <Scalar T>
class BackwardOffset : public testing::Test {};
using Accumulators = testing::Types<float, double>;
TYPED_TEST_SUITE(BackwardOffset, Accumulators);

TYPED_TEST(BackwardOffset, InARuleChangesNothing) {
  using T = TypeParam;
  Random random(1);
  const auto input = whole_numbers<T>(random, {2, 70, 6, 16}, 90, 2, 20);
  for (const double offset : {300.0, -1e4, 1e5, -1e6, 4e6, -1.5e7}) {
    expect_no_change(input, Causal{} & Scale{1}, add_offset(offset), message("offset ", offset));
  }
}

TYPED_TEST(BackwardOffset, OfOneNumberForAllKeysLeavesTheirMean) {
  using T = TypeParam;
  Random random(2);
  for (const Index kv_len : {1, 9, 65, 512}) {
    auto input = whole_numbers<T>(random, {1, 3, 4, 16}, kv_len, 2, 20);
    input.q.fill(0);
    const double most = std::numeric_limits<T>::max();
    for (const double offset : {-1e6, -1e9, 1e30, -1e38, 0.5 * most, -0.6 * most}) {
      expect_no_change(input, as_rules(NoMask{}), add_offset(offset),
                       message(kv_len, " keys, offset ", offset));
    }
  }
}

TYPED_TEST(BackwardOffset, InTheProductsChangesNothing) {
  using T = TypeParam;
  Random random(3);
  for (const double root : {32.0, 1024.0, 2048.0}) {
    for (const double scale : {1.0, -1.0}) {
      auto input = whole_numbers<T>(random, {1, 50, 4, 16}, 80, 2, 20);
      const auto dout = random_tensor<T>(random, input.out_shape());
      const auto rules = Causal{} & Scale{scale};
      const auto set_root = [&](T of_q, T of_k) {
        for (Index t = 0; t < 80; ++t) {
          for (Index h = 0; h < 4; ++h) {
            if (t < 50) input.q.row(0, t, h)[15] = of_q;
            if (h < 2) input.k.row(0, t, h)[15] = of_k;
          }
        }
      };
      // Of the gradients, only those of the last channel know the roots.
      set_root(0, 0);
      const ExpectedGradients<T> expected(input, dout, rules);
      set_root(static_cast<T>(root), static_cast<T>(-root));
      auto forward = attend_over<T>(input, input.rows_kv(), rules);
      auto actual = backward_of(input, dout, forward, rules);
      for (Index t = 0; t < 80; ++t) {
        for (Index h = 0; h < 4; ++h) {
          if (t < 50)
            actual.dq.row(0, t, h)[15] = static_cast<T>(expected.exact.dq.row(0, t, h)[15]);
          if (h < 2)
            actual.dk.row(0, t, h)[15] = static_cast<T>(expected.exact.dk.row(0, t, h)[15]);
        }
      }
      for (auto* x : {&actual.dq, &actual.dk}) {
        x->for_each([](T& e) { e = std::isfinite(e) ? e : T(0); });
      }
      expected.expect_close(actual, message("offset ", -scale * root * root));
    }
  }
}

TYPED_TEST(BackwardOffset, ReachesTheSinkToo) {
  using T = TypeParam;
  Random random(5);
  const auto input = whole_numbers<T>(random, {2, 20, 4, 16}, 30, 2, 20);
  for (const float offset : {-1e4f, 1e6f, -8e6f}) {
    std::vector<float> sinks = {1, -2, 0, 3};
    const auto exact_sinks = sinks;
    const auto dout = random_tensor<T>(random, input.out_shape());
    for (float& sink : sinks) sink += offset;
    // Bottom-right: the first queries of a sequence of 12 keys see none.
    auto ragged = input;
    ragged.lengths = {30, 12};
    const auto rules = Causal{} & Scale{1} & SinkLogits{sinks} & add_offset(offset);
    auto forward = attend_over<T>(ragged, ragged.rows_kv(), rules);
    const auto actual = backward_of(ragged, dout, forward, rules);
    ExpectedGradients<T>(ragged, dout, Causal{} & Scale{1} & SinkLogits{exact_sinks})
        .expect_close(actual, message("offset ", offset));
  }
}

TEST(BackwardOffsets, OfSomeRowsLeaveTheOthersTheirBits) {
  Random random(6);
  const auto input = whole_numbers<float>(random, {1, 70, 6, 16}, 90, 2, 20);
  const auto dout = random_tensor<float>(random, input.out_shape());
  Eigen::Tensor<float, 2, Eigen::RowMajor> none(70, 90), some(70, 90);
  none.setZero();
  some.setZero();
  for (Index i = 0; i < 70; i += 3) {
    for (Index j = 0; j < 90; ++j) some(i, j) = -1e6f;
  }
  const auto gradients_of = [&](const auto& bias, auto& bias_gradient) {
    const auto rules = Causal{} & Scale{1} & AdditiveBias{bias};
    auto forward = attend_over<float>(input, input.rows_kv(), rules);
    Gradients<float> gradients(input);
    auto options = backward_options(input, gradients);
    options.bias_gradient = bias_gradient;
    attend_backward(dout.view(), input.q.view(), input.rows_kv(), forward.out.view(),
                    forward.lse_view(), gradients.dq.view(), gradients.dk.view(),
                    gradients.dv.view(), rules, options);
    return gradients;
  };
  auto plain_bias = none, bias = none;
  const auto plain = gradients_of(none, plain_bias);
  const auto actual = gradients_of(some, bias);
  for (Index i = 0; i < 70; ++i) {
    if (i % 3 == 0) continue;
    for (Index h = 0; h < 6; ++h) {
      EXPECT_TRUE(
          std::equal(actual.dq.row(0, i, h), actual.dq.row(0, i, h) + 16, plain.dq.row(0, i, h)))
          << i << ", " << h;
    }
  }
  for (Index i = 0; i < 70; ++i) {
    for (Index j = 0; j < 90; ++j)
      EXPECT_NEAR(bias(i, j), plain_bias(i, j), 3e-6) << i << ", " << j;
  }
  ExpectedGradients<float>(input, dout, Causal{} & Scale{1})
      .expect_close(actual, "every third row");
}

TEST(BackwardOffsets, OfAnEmptyRowMayBeInfinite) {
  // FlashAttention-2 says of a query that sees no key that its lse is +inf.
  Random random(7);
  AttentionInput<float, float> input{.q = random_tensor<float>(random, {1, 5, 4, 8}),
                                     .k = random_tensor<float>(random, {1, 2, 2, 8}),
                                     .v = random_tensor<float>(random, {1, 2, 2, 8})};
  const auto dout = random_tensor<float>(random, input.out_shape());
  const auto rules = as_rules(Causal{});  // bottom-right: queries 0 to 2 see no key
  auto forward = attend_over<float>(input, input.rows_kv(), rules);
  const auto expected = backward_of(input, dout, forward, rules);
  for (float& lse : forward.lse) {
    if (lse == -std::numeric_limits<float>::infinity()) lse = -lse;
  }
  EXPECT_TRUE(same_bits(backward_of(input, dout, forward, rules), expected));
}

}  // namespace
}  // namespace gqa::test
