// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What attend_backward() promises beside being right (backward_sweep_test.cpp): the same bits
// however it is run, nothing from what is hidden, zeros where nothing is seen.
#include <gtest/gtest.h>

#include "support/attention_case.hpp"
#include "support/gradient_check.hpp"

namespace gqa::test {
namespace {

// --- bits ---

/// Two sequences of different lengths, row blocks (96 rows), and chunks (384 rows) of some groups.
struct LargeCase {
  AttentionInput<float, float> input;
  TestTensor<float> dout;

  LargeCase(Index group, Index num_kv_heads) {
    const AttentionCase c{.group = group,
                          .num_kv_heads = num_kv_heads,
                          .q_len = 130,
                          .kv_len = 170,
                          .head_dim = 24,
                          .value_dim = 40,
                          .batch = 2};
    Random random(5);
    input = make_input<float, float>(c, random);
    input.q_lens = {130, 101};
    input.lengths = {170, 111};
    dout = random_tensor<float>(random, input.out_shape());
  }
};

TEST(BackwardBits, AnyNumberOfThreadsGivesTheSame) {
  for (const Index group : {1, 7}) {
    const auto [input, dout] = LargeCase(group, group == 1 ? 20 : 1);  // one chunk, and several
    const auto rules = as_rules(Causal{});
    auto forward = attend_over<float>(input, input.rows_kv(), rules);
    const auto serial = backward_of(input, dout, forward, rules);
    ExpectedGradients<float>(input, dout, rules).expect_close(serial, message("group ", group));
    for (const Index threads : {2, 3, 8}) {
      EXPECT_TRUE(
          same_bits(backward_of(input, dout, forward, rules, TestExecutor{threads}), serial))
          << threads;
    }
  }
}

TEST(BackwardBits, ASequenceGivesTheSameAloneAndInABatch) {
  const auto [input, dout] = LargeCase(3, 2);
  const auto rules = as_rules(Causal{});
  auto forward = attend_over<float>(input, input.rows_kv(), rules);
  const auto batch = backward_of(input, dout, forward, rules);
  for (Index b = 0; b < input.batch(); ++b) {
    const Index q_len = input.q_len(b), kv_len = input.length(b);
    const auto q = input.q.view().sequence(b).tokens_slice(0, q_len);
    const auto k = input.k.view().sequence(b).tokens_slice(0, kv_len);
    const auto v = input.v.view().sequence(b).tokens_slice(0, kv_len);
    TestTensor<float> out({1, q_len, 6, 40}), dq({1, q_len, 6, 24}), dk({1, kv_len, 2, 24}),
        dv({1, kv_len, 2, 40});
    std::vector<float> lse(static_cast<std::size_t>(6 * q_len));
    const LseView<float> lse_view(lse.data(), 1, 6, q_len);
    attend(q, k, v, out.view(), rules, {.lse = lse_view});
    attend_backward(dout.view().sequence(b).tokens_slice(0, q_len), q, k, v, out.view(), lse_view,
                    dq.view(), dk.view(), dv.view(), rules);
    const auto expect_same = [&](const auto& one, const auto& all) {
      for (Index t = 0; t < one.shape().tokens; ++t) {
        for (Index h = 0; h < one.shape().heads; ++h) {
          ASSERT_TRUE(
              std::equal(one.row(0, t, h), one.row(0, t, h) + one.shape().dim, all.row(b, t, h)))
              << b << ", " << t << ", " << h;
        }
      }
    };
    expect_same(dq, batch.dq);
    expect_same(dk, batch.dk);
    expect_same(dv, batch.dv);
  }
}

TEST(BackwardBits, ABiasSharedByAllIsSummedInOneOrder) {
  // 3 chunks of a sequence, whose borders part the heads of a token; all add to the same numbers.
  const LargeCase c(7, 1);
  const AttentionInput<float, float>& input = c.input;
  Random random(6);
  Eigen::Tensor<float, 4, Eigen::RowMajor> bias(1, 1, 130, 170);
  for (Index i = 0; i < bias.size(); ++i) bias.data()[i] = static_cast<float>(random.normal());
  const auto rules = Causal{} & AdditiveBias{bias};
  auto forward = attend_over<float>(input, input.rows_kv(), rules);
  Gradients<float> gradients(input);
  const auto bias_gradient = [&](auto backward) {
    auto sum = bias;
    auto options = backward_options(input, gradients);
    options.bias_gradient = sum;
    backward(options);
    return sum;
  };
  const auto of_threads = [&](Index threads) {
    return bias_gradient([&](const auto& options) {
      attend_backward(c.dout.view(), input.q.view(), input.rows_kv(), forward.out.view(),
                      forward.lse_view(), gradients.dq.view(), gradients.dk.view(),
                      gradients.dv.view(), rules, options, TestExecutor{threads});
    });
  };
  const auto serial = of_threads(1);
  for (const Index threads : {2, 3, 8}) {
    const auto sum = of_threads(threads);
    EXPECT_TRUE(std::equal(sum.data(), sum.data() + sum.size(), serial.data())) << threads;
  }
  const auto exact = bias_gradient([&](const auto& options) {
    reference_backward(c.dout.view(), input.q.view(), input.rows_kv(), gradients.dq.view(),
                       gradients.dk.view(), gradients.dv.view(), rules, options);
  });
  for (Index i = 0; i < serial.size(); ++i) {
    ASSERT_NEAR(serial.data()[i], exact.data()[i], 2e-5) << i;
  }
}

// --- what is hidden ---

/// Does a row of gradients hold a NaN (or infinity)?
bool poisoned(const TestTensor<float>& x, Index b, Index t, Index h) {
  return !std::all_of(x.row(b, t, h), x.row(b, t, h) + x.shape().dim,
                      [](float e) { return std::isfinite(e); });
}

TEST(BackwardOfNonFinite, ReachesOnlyWhatSeesIt) {
  const Index tokens = 200, at = 70;
  enum class Where_ { query, key, value, dout };
  for (const Where_ where : {Where_::query, Where_::key, Where_::value, Where_::dout}) {
    SCOPED_TRACE(static_cast<int>(where));
    Random random(8);
    AttentionInput<float, float> input{.q = random_tensor<float>(random, {1, tokens, 2, 16}),
                                       .k = random_tensor<float>(random, {1, tokens, 1, 16}),
                                       .v = random_tensor<float>(random, {1, tokens, 1, 20})};
    auto dout = random_tensor<float>(random, input.out_shape());
    const auto rules = as_rules(Causal{});
    auto clean_forward = attend_over<float>(input, input.rows_kv(), rules);
    const auto clean = backward_of(input, dout, clean_forward, rules);
    const bool of_key = where == Where_::key || where == Where_::value;
    TestTensor<float>& target = where == Where_::query   ? input.q
                                : where == Where_::key   ? input.k
                                : where == Where_::value ? input.v
                                                         : dout;
    target.row(0, at, 0)[3] = std::numeric_limits<float>::quiet_NaN();
    auto forward = attend_over<float>(input, input.rows_kv(), rules);
    const auto actual = backward_of(input, dout, forward, rules);
    for (Index t = 0; t < tokens; ++t) {
      for (Index h = 0; h < 2; ++h) {
        // A key reaches the queries from its own on; a query only itself.
        const bool reached = of_key ? t >= at : t == at && h == 0;
        EXPECT_EQ(poisoned(actual.dq, 0, t, h), reached) << t << ", " << h;
        if (!reached) {
          EXPECT_TRUE(std::equal(actual.dq.row(0, t, h), actual.dq.row(0, t, h) + 16,
                                 clean.dq.row(0, t, h)))
              << t << ", " << h;
        }
      }
      // A query reaches the keys up to its own; a key, through the queries after it, all of them.
      const bool reached = of_key || t <= at;
      EXPECT_EQ(poisoned(actual.dk, 0, t, 0), reached) << t;
      if (!reached) {
        EXPECT_TRUE(
            std::equal(actual.dk.row(0, t, 0), actual.dk.row(0, t, 0) + 16, clean.dk.row(0, t, 0)));
        EXPECT_TRUE(
            std::equal(actual.dv.row(0, t, 0), actual.dv.row(0, t, 0) + 20, clean.dv.row(0, t, 0)));
      }
    }
  }
}

TEST(BackwardOfNonFinite, HiddenKeysAndValuesChangeNothing) {
  Random random(9);
  AttentionInput<float, float> input{.q = random_tensor<float>(random, {1, 150, 3, 16}),
                                     .k = random_tensor<float>(random, {1, 150, 1, 16}),
                                     .v = random_tensor<float>(random, {1, 150, 1, 20})};
  const auto dout = random_tensor<float>(random, input.out_shape());
  // Every third key is hidden from all; 64 in a row are a block that isn't read.
  const auto hidden = [](Index j) { return j % 3 == 1 || (j >= 64 && j < 128); };
  std::vector<char> table;
  for (Index j = 0; j < 150; ++j) table.push_back(!hidden(j));
  const auto mask = std::make_unique<bool[]>(150);
  std::copy(table.begin(), table.end(), mask.get());
  const auto rules = Causal{} & DenseMask{DenseView<bool>(mask.get(), {1, 1, 1, 150})};
  auto forward = attend_over<float>(input, input.rows_kv(), rules);
  const auto clean = backward_of(input, dout, forward, rules);
  for (const double poison :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    for (Index j = 0; j < 150; ++j) {
      if (!hidden(j)) continue;
      input.k.fill_row(0, j, 0, poison);
      input.v.fill_row(0, j, 0, poison);
    }
    EXPECT_TRUE(same_bits(backward_of(input, dout, forward, rules), clean));
  }
  for (Index j = 0; j < 150; ++j) {
    if (!hidden(j)) continue;
    EXPECT_TRUE(std::all_of(clean.dv.row(0, j, 0), clean.dv.row(0, j, 0) + 20,
                            [](float x) { return x == 0; }));
  }
}

TEST(BackwardOfNonFinite, AQueryThatSeesNoKeyAddsNothingToTheSink) {
  Random random(11);
  AttentionInput<float, float> input{.q = random_tensor<float>(random, {1, 5, 4, 8}),
                                     .k = random_tensor<float>(random, {1, 2, 2, 8}),
                                     .v = random_tensor<float>(random, {1, 2, 2, 8})};
  auto dout = random_tensor<float>(random, input.out_shape());
  const std::vector<float> sinks = {0.5f, -1, 2, 0};
  const auto rules = Causal{} & SinkLogits{sinks};  // bottom-right: queries 0 to 2 see no key
  auto forward = attend_over<float>(input, input.rows_kv(), rules);
  const auto gradient_of_sinks = [&] { return backward_of(input, dout, forward, rules).sinks; };
  const std::vector<float> expected = gradient_of_sinks();
  for (Index i = 0; i < 3; ++i) {
    dout.fill_row(0, i, 1, std::numeric_limits<double>::quiet_NaN());
    dout.fill_row(0, i, 2, std::numeric_limits<double>::infinity());
  }
  EXPECT_EQ(gradient_of_sinks(), expected);
  dout.fill_row(0, 3, 1, std::numeric_limits<double>::quiet_NaN());
  EXPECT_TRUE(std::isnan(gradient_of_sinks()[1]));
}

TEST(Backward, OfNothingIsZero) {
  const auto all_zero = [](TestTensor<float>& x) {
    bool zero = true;
    x.for_each([&](float& e) { zero = zero && e == 0; });
    return zero;
  };
  for (const auto& [q_len, kv_len] : {std::pair<Index, Index>{4, 0}, {0, 70}, {5, 2}}) {
    SCOPED_TRACE(message(q_len, ", ", kv_len));
    Random random(10);
    AttentionInput<float, float> input{.q = random_tensor<float>(random, {1, q_len, 4, 8}),
                                       .k = random_tensor<float>(random, {1, kv_len, 2, 8}),
                                       .v = random_tensor<float>(random, {1, kv_len, 2, 8})};
    const auto dout = random_tensor<float>(random, input.out_shape());
    const auto rules = as_rules(Causal{});
    auto forward = attend_over<float>(input, input.rows_kv(), rules);
    auto gradients = backward_of(input, dout, forward, rules);
    if (q_len == 5) {  // bottom-right: the first three queries see no key
      for (Index i = 0; i < 5; ++i) {
        const float* dq = gradients.dq.row(0, i, 1);
        const bool zero = std::all_of(dq, dq + 8, [](float x) { return x == 0; });
        EXPECT_TRUE(i == 3 || zero == (i < 3)) << i;
      }
    } else {
      EXPECT_TRUE(all_zero(gradients.dq));
      EXPECT_TRUE(all_zero(gradients.dk));
      EXPECT_TRUE(all_zero(gradients.dv));
    }
  }
}

}  // namespace
}  // namespace gqa::test
