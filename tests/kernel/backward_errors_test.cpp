// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What attend_backward() and reference_backward() refuse: with the numbers, and without a write.
#include <gtest/gtest.h>

#include "support/errors.hpp"
#include "support/gradient_check.hpp"

namespace gqa::test {
namespace {

/// A call that is right, to be made wrong in one thing.
struct Call {
  TensorShape dout{2, 3, 4, 6}, q{2, 3, 4, 8}, k{2, 10, 2, 8}, v{2, 10, 2, 6}, out{2, 3, 4, 6};
  std::array<Index, 3> lse{2, 4, 3};
  TensorShape dq{2, 3, 4, 8}, dk{2, 10, 2, 8}, dv{2, 10, 2, 6};
  std::vector<Index> q_lens = {}, positions = {};
  std::array<Index, 4> bias = {0, 0, 0, 0};
  std::size_t sinks = 0, table = 0;
};

/// The error of attend_backward(); with `both`, reference_backward() must give it, too.
template <typename RulesT = Causal>
std::string error(const Call& c, const RulesT& rules = {}, bool both = true) {
  const TestTensor<float> dout(c.dout), q(c.q), k(c.k), v(c.v), out(c.out);
  TestTensor<float> dq(c.dq), dk(c.dk), dv(c.dv);
  std::vector<float> lse(1000), sinks(c.sinks, -1), bias(10000, -1), table(c.table);
  const LseView<float> lse_view(c.lse[0] == 0 ? nullptr : lse.data(), c.lse[0], c.lse[1], c.lse[2]);
  BackwardOptions<float> options{.q_lens = c.q_lens,
                                 .positions = c.positions,
                                 .relative_bias_gradient = table,
                                 .sink_gradient = sinks};
  if (c.bias[3] > 0)
    options.bias_gradient = {bias.data(), {c.bias[0], c.bias[1], c.bias[2], c.bias[3]}};
  for (auto* x : {&dq, &dk, &dv}) x->fill(-1);
  const auto before = std::tuple(dq.storage(), dk.storage(), dv.storage());
  const std::string of_attend = error_of([&] {
    attend_backward(dout.view(), q.view(), k.view(), v.view(), out.view(), lse_view, dq.view(),
                    dk.view(), dv.view(), rules, options);
  });
  const std::string of_reference = error_of([&] {
    reference_backward(dout.view(), q.view(), k.view(), v.view(), dq.view(), dk.view(), dv.view(),
                       rules, options);
  });
  const std::string name = "attend_backward";
  if (both && of_attend.starts_with(name)) {
    EXPECT_EQ(of_reference, "reference_backward" + of_attend.substr(name.size()));
  }
  if (of_attend != "no exception" && both) {
    EXPECT_TRUE(same_bits(dq.storage(), std::get<0>(before)));
    EXPECT_TRUE(same_bits(dk.storage(), std::get<1>(before)));
    EXPECT_TRUE(same_bits(dv.storage(), std::get<2>(before)));
    EXPECT_EQ(sinks, std::vector<float>(c.sinks, -1));
    EXPECT_EQ(bias, std::vector<float>(10000, -1));
  }
  return of_attend;
}

TEST(BackwardErrors, ARightCallIsNone) {
  EXPECT_EQ(error({}), "no exception");
  // Gradients of keys may have room after the longest sequence, as the keys may.
  EXPECT_EQ(error({.dk = {2, 12, 2, 8}, .dv = {2, 12, 2, 6}}), "no exception");
}

TEST(BackwardErrors, OfTheForwardCall) {
  EXPECT_EQ(error({.k = {2, 10, 2, 7}}),
            "attend_backward: the keys' head_dim is 7, but the queries' is 8");
  EXPECT_EQ(error({.k = {2, 10, 3, 8}, .v = {2, 10, 3, 6}}),
            "attend_backward: num_kv_heads 3 does not divide num_heads 4");
  EXPECT_EQ(error({.out = {2, 3, 4, 5}}, Causal{}, false),
            "attend_backward: out is [2, 3, 4, 5], expected [2, 3, 4, 6]");
  EXPECT_EQ(error({.lse = {2, 3, 4}}, Causal{}, false),
            "attend_backward: lse's num_heads is 3, but the queries' is 4");
  EXPECT_EQ(error({.lse = {0, 0, 0}}, Causal{}, false),
            "attend_backward needs the lse of the forward pass");
  EXPECT_EQ(error({.q_lens = {3, 4}}), "attend_backward: a q_len of 4 is outside of [0, 3]");
  EXPECT_EQ(error({.positions = {1}}),
            "attend_backward: the number of positions is 1, but batch * q_len is 6");
  EXPECT_EQ(error({}, Alibi::standard(8)), "Alibi has 8 slopes for num_heads 4");
}

TEST(BackwardErrors, ShapesOfGradients) {
  EXPECT_EQ(error({.dout = {2, 3, 4, 8}}),
            "attend_backward: dout is [2, 3, 4, 8], expected [2, 3, 4, 6]");
  EXPECT_EQ(error({.dq = {2, 3, 4, 6}}),
            "attend_backward: dq is [2, 3, 4, 6], expected [2, 3, 4, 8]");
  EXPECT_EQ(error({.dk = {2, 9, 2, 8}}), "attend_backward: dk is [2, 9, 2, 8] for 10 keys");
  EXPECT_EQ(error({.dk = {2, 10, 4, 8}}),
            "attend_backward: dk is [2, 10, 4, 8], expected [2, 10, 2, 8]");
  EXPECT_EQ(error({.dv = {2, 10, 2, 8}}),
            "attend_backward: dv is [2, 10, 2, 8], expected [2, 10, 2, 6]");
  EXPECT_EQ(error({.dv = {2, 11, 2, 6}}),
            "attend_backward: dv is [2, 11, 2, 6], expected [2, 10, 2, 6]");
}

TEST(BackwardErrors, GradientsOfRules) {
  EXPECT_EQ(error({.sinks = 4}),
            "attend_backward: the rules have no SinkLogits that sink_gradient could be of");
  EXPECT_EQ(error({.bias = {1, 1, 3, 10}}),
            "attend_backward: bias_gradient is of one AdditiveBias, the rules have 0");
  const std::vector<float> logits(4);
  Eigen::Tensor<float, 2, Eigen::RowMajor> bias(3, 10);
  bias.setZero();
  const auto rules = SinkLogits{logits} & AdditiveBias{bias};
  EXPECT_EQ(error({.sinks = 3}, rules),
            "attend_backward: sink_gradient has 3 numbers for num_heads 4");
  EXPECT_EQ(error({.bias = {1, 4, 3, 10}}, rules),
            "attend_backward: bias_gradient is [1, 4, 3, 10], the bias [1, 1, 3, 10]");
  EXPECT_EQ(error({.bias = {1, 1, 3, 10}, .sinks = 4}, rules), "no exception");
  EXPECT_EQ(error({.table = 8}, rules),
            "attend_backward: relative_bias_gradient is of one RelativeBias, the rules have 0");
  const std::vector<float> table(128);
  const RelativeBias relative{.table = table, .num_heads = 4};
  EXPECT_EQ(error({.table = 8}, as_rules(relative)),
            "attend_backward: relative_bias_gradient has 8 numbers, the table 128");
  EXPECT_EQ(error({.table = 128}, relative & AdditiveBias{bias}),
            "attend_backward: gradients of biases are of rules with one of them, these have 2");
}

}  // namespace
}  // namespace gqa::test
