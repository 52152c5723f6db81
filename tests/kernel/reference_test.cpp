// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The reference against sums worked out by hand, small enough to follow. ONNX's and PyTorch's
// values: tests/conformance and tests/golden.
#include "gqa/kernel/reference.hpp"

#include <gtest/gtest.h>

#include "support/attention_check.hpp"

namespace gqa::test {
namespace {

using Tensor = Eigen::Tensor<double, 4, Eigen::RowMajor>;

/// One query head over two keys: scores ln 1 = 0 and ln 3, so weights 1/4 and 3/4.
struct TwoKeys {
  Tensor q{1, 1, 1, 1}, k{1, 2, 1, 1}, v{1, 2, 1, 2}, out{1, 1, 1, 2};
  Eigen::Tensor<double, 3, Eigen::RowMajor> lse{1, 1, 1};
  TwoKeys() {
    q.setConstant(1);
    k.setValues({{{{0.0}}, {{std::log(3.0)}}}});
    v.setValues({{{{8.0, -4.0}}, {{16.0, 0.0}}}});
  }
  void run(const auto& rules, const std::vector<Index>& positions = {}) {
    ReferenceOptions<double> options;
    options.lse = lse;
    options.positions = positions;
    reference(q, k, v, out, rules, options);
  }
  void expect(double a, double b, double log_sum) {
    EXPECT_NEAR(out(0, 0, 0, 0), a, 1e-13);
    EXPECT_NEAR(out(0, 0, 0, 1), b, 1e-13);
    if (std::isinf(log_sum)) {
      EXPECT_EQ(lse(0, 0, 0), log_sum);
    } else {
      EXPECT_NEAR(lse(0, 0, 0), log_sum, 1e-13);
    }
  }
};

TEST(Reference, WeighsValuesByTheSoftmax) {
  TwoKeys two;
  two.run(NoMask{});
  two.expect(0.25 * 8 + 0.75 * 16, 0.25 * -4, std::log(4.0));
}

TEST(Reference, ScalesByTheSquareRootOfHeadDim) {
  Tensor q(1, 1, 1, 4), k(1, 2, 1, 4), v(1, 2, 1, 1), out(1, 1, 1, 1);
  q.setConstant(0.5);
  k.setValues({{{{0.0, 0.0, 0.0, 0.0}}, {{2 * std::log(3.0), 2 * std::log(3.0), 0.0, 0.0}}}});
  v.setValues({{{{0.0}}, {{1.0}}}});
  reference(q, k, v, out, NoMask{});  // q·k / sqrt(4) = ln 3
  EXPECT_NEAR(out(0, 0, 0, 0), 0.75, 1e-13);
  reference(q, k, v, out, Scale{1.0});  // e^(2 ln 3) = 9
  EXPECT_NEAR(out(0, 0, 0, 0), 0.9, 1e-13);
}

TEST(Reference, HiddenKeysTakeNoPart) {
  TwoKeys two;
  two.run(Causal{}, {0});
  two.expect(8, -4, 0);
  two.run(Causal{}, {-1});
  two.expect(0, 0, -infinity);
}

TEST(Reference, BiasesAndSinksCount) {
  TwoKeys two;
  two.run(Alibi({1.0f}), {1});  // the first key is one away: e^-1
  const double e = std::exp(-1.0);
  two.expect((e * 8 + 3 * 16) / (e + 3), -4 * e / (e + 3), std::log(e + 3));
  const std::vector<float> zero{0.0f};
  two.run(SinkLogits{zero});  // weights 1, 3 and the sink's 1
  two.expect((8 + 3 * 16) / 5.0, -4 / 5.0, std::log(5.0));
  two.run(SinkLogits{zero} & Causal{}, {-1});  // the sink alone: no value, but a sum of 1
  two.expect(0, 0, 0);
}

TEST(Reference, EveryQueryHeadReadsItsGroupsKvHead) {
  // One key per KV head, so that out is the KV head's value.
  Tensor q(1, 1, 6, 1), k(1, 1, 3, 1), v(1, 1, 3, 1), out(1, 1, 6, 1);
  q.setConstant(1);
  k.setConstant(1);
  v.setValues({{{{10.0}, {20.0}, {30.0}}}});
  reference(q, k, v, out, NoMask{});
  for (Index h = 0; h < 6; ++h) EXPECT_EQ(out(0, 0, h, 0), 10 * (h / 2 + 1)) << h;
}

TEST(Reference, RaggedBatchesAreTheirSequences) {
  Random random(1);
  AttentionInput<double, double> input{.q = random_tensor<double>(random, {2, 3, 2, 4}),
                                       .k = random_tensor<double>(random, {2, 5, 1, 4}),
                                       .v = random_tensor<double>(random, {2, 5, 1, 4}),
                                       .lengths = {5, 2},
                                       .q_lens = {3, 1}};
  const auto batch = expect_attention(input, Causal{}).result;
  // Sequence 1: its only query is its last token, and sees both keys.
  AttentionInput<double, double> one{.q = TestTensor<double>({1, 1, 2, 4}),
                                     .k = TestTensor<double>({1, 2, 1, 4}),
                                     .v = TestTensor<double>({1, 2, 1, 4})};
  for (Index h = 0; h < 2; ++h) std::copy_n(input.q.row(1, 0, h), 4, one.q.row(0, 0, h));
  for (Index t = 0; t < 2; ++t) {
    std::copy_n(input.k.row(1, t, 0), 4, one.k.row(0, t, 0));
    std::copy_n(input.v.row(1, t, 0), 4, one.v.row(0, t, 0));
  }
  const auto alone = expect_attention(one, Causal{}).result;
  for (Index h = 0; h < 2; ++h) {
    EXPECT_TRUE(
        std::equal(alone.out.row(0, 0, h), alone.out.row(0, 0, h) + 4, batch.out.row(1, 0, h)));
    EXPECT_EQ(alone.lse[static_cast<std::size_t>(h)],
              batch.lse[static_cast<std::size_t>(6 + h * 3)]);
    for (Index i = 1; i < 3; ++i) {  // after the sequence's queries
      EXPECT_EQ(batch.lse[static_cast<std::size_t>(6 + h * 3 + i)], -infinity);
      EXPECT_EQ(batch.out.row(1, i, h)[0], 0);
    }
  }
}

TEST(Reference, ReadsACacheAndRowsAlike) {
  Random random(2);
  const AttentionInput<float, half> input{.q = random_tensor<float>(random, {2, 3, 4, 9}),
                                          .k = random_tensor<half>(random, {2, 70, 2, 9}),
                                          .v = random_tensor<half>(random, {2, 70, 2, 5}),
                                          .lengths = {70, 66}};
  AttentionResult<float, float> from_rows(input.out_shape()), from_cache(input.out_shape());
  ReferenceOptions<float> options;
  options.lse = from_rows.lse_view();
  reference(input.q.view(), input.rows_kv(), from_rows.out.view(), Causal{}, options);
  options.lse = from_cache.lse_view();
  reference(input.q.view(), input.cache(30), from_cache.out.view(), Causal{}, options);
  EXPECT_TRUE(same_bits(from_rows, from_cache));
}

TEST(Reference, ShowsScoresAtEachStage) {
  // Cap 2 and a bias of slope 1, query at position 1 of 3 keys, the last of them hidden.
  Tensor q(1, 1, 1, 1), k(1, 3, 1, 1), v(1, 3, 1, 1), out(1, 1, 1, 1);
  q.setConstant(2);
  k.setValues({{{{1.0}}, {{-3.0}}, {{5.0}}}});
  v.setConstant(1);
  const auto rules = Causal{} & SoftCap{2.0f} & Alibi({1.0f});
  const std::vector<Index> positions{1};
  const auto at = [&](ScoreStage stage) {
    std::vector<double> scores(3, -12345);
    ReferenceOptions<double> options;
    options.positions = positions;
    options.scores = scores.data();
    options.stage = stage;
    reference(q, k, v, out, rules, options);
    return scores;
  };
  const auto cap = [](double x) { return 2 * std::tanh(x / 2); };
  EXPECT_EQ(at(ScoreStage::scaled), (std::vector<double>{2, -6, 10}));
  EXPECT_EQ(at(ScoreStage::capped), (std::vector<double>{cap(2), cap(-6), cap(10)}));
  EXPECT_EQ(at(ScoreStage::biased), (std::vector<double>{cap(2) - 1, cap(-6), -infinity}));
  const double a = std::exp(cap(2) - 1), b = std::exp(cap(-6));
  const auto softmax = at(ScoreStage::softmax);
  EXPECT_NEAR(softmax[0], a / (a + b), 1e-15);
  EXPECT_NEAR(softmax[1], b / (a + b), 1e-15);
  EXPECT_EQ(softmax[2], 0);
}

TEST(Reference, ShowsNoScoresBehindAShorterSequence) {
  Random random(3);
  const auto q = random_tensor<double>(random, {2, 2, 1, 3});
  const auto k = random_tensor<double>(random, {2, 4, 1, 3});
  TestTensor<double> out({2, 2, 1, 3});
  const std::vector<Index> lengths{4, 2}, q_lens{2, 1};
  std::vector<double> scores(2 * 2 * 4, -12345);
  ReferenceOptions<double> options;
  options.q_lens = q_lens;
  options.scores = scores.data();
  options.stage = ScoreStage::scaled;
  reference(q.view(), RowsKv<double>(k.view(), k.view(), lengths), out.view(), NoMask{}, options);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const bool exists = i < 8 || i < 10;  // sequence 0; sequence 1: one query, two keys
    EXPECT_EQ(scores[i] != 0, exists) << i;
    EXPECT_NE(scores[i], -12345);
  }
}

}  // namespace
}  // namespace gqa::test
