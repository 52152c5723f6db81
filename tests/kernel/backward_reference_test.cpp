// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// reference_backward() held to finite differences of reference(), in double; of biases and sink
// logits, attend_backward() beside it.
#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "support/attention_case.hpp"
#include "support/difference.hpp"
#include "support/gradient_check.hpp"

namespace gqa::test {
namespace {

/// d f / d x by central differences of the fourth order; f is evaluated with x changed in place.
template <typename Number, typename F>
double difference_quotient(Number& x, double h, F f) {
  const Number before = x;
  const auto at = [&](double shift) {
    x = static_cast<Number>(static_cast<double>(before) + shift);
    const double y = f();
    x = before;
    return y;
  };
  return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
}

/// Largest |a - b| over the largest |b|.
class RelativeError {
 public:
  void add(double a, double b) {
    difference_ = std::max(difference_, difference(a, b));
    size_ = std::max(size_, std::abs(b));
  }
  double value() const { return difference_ / std::max(size_, 1e-3); }

 private:
  double difference_ = 0, size_ = 0;
};

/// Σ out · dout of reference().
template <typename RulesT>
double loss(const AttentionInput<double, double>& input, const TestTensor<double>& dout,
            const RulesT& rules) {
  TestTensor<double> out(input.out_shape());
  ReferenceOptions<double> options;
  options.q_lens = input.q_lens;
  options.positions = input.positions;
  reference(input.q.view(), input.rows_kv(), out.view(), rules, options);
  double sum = 0;
  auto weights = dout.to<double>();
  std::vector<double> numbers;
  out.for_each([&](double& x) { numbers.push_back(x); });
  std::size_t i = 0;
  weights.for_each([&](double& w) { sum += w * numbers[i++]; });
  return sum;
}

TEST(ReferenceBackward, AgreesWithFiniteDifferences) {
  struct Sizes {
    Index group, num_kv_heads, q_len, kv_len, head_dim, value_dim;
    MaskChoice mask;
    ScoreChoice score;
  };
  using enum MaskChoice;
  constexpr auto no_mask = MaskChoice::none;
  constexpr auto plain = ScoreChoice::none;
  const std::vector<Sizes> all{
      {1, 2, 5, 5, 3, 3, causal, plain},
      {2, 2, 5, 9, 4, 3, causal, plain},
      {3, 1, 4, 7, 5, 2, window_both, plain},
      {4, 1, 3, 6, 3, 4, causal_window_keep_first, ScoreChoice::soft_cap},
      {8, 1, 3, 5, 2, 3, causal, ScoreChoice::alibi},
      {2, 1, 7, 3, 4, 4, no_mask, ScoreChoice::soft_cap},  // cross-attention: more queries
      {3, 2, 2, 11, 3, 5, no_mask, ScoreChoice::additive_bias},
      {1, 3, 4, 6, 3, 3, prefix_lm, ScoreChoice::relative_bias},
      {2, 2, 4, 6, 3, 3, documents, ScoreChoice::sinks},
      {4, 1, 4, 6, 3, 3, dense_per_head, ScoreChoice::all_together},
      {2, 1, 6, 4, 3, 3, causal, ScoreChoice::additive_bias_hiding},  // some rows see nothing
  };
  std::uint64_t seed = 0;
  for (const Sizes& n : all) {
    const AttentionCase c{.group = n.group,
                          .num_kv_heads = n.num_kv_heads,
                          .q_len = n.q_len,
                          .kv_len = n.kv_len,
                          .head_dim = n.head_dim,
                          .value_dim = n.value_dim,
                          .batch = 2,
                          .mask = n.mask,
                          .score = n.score,
                          .seed = ++seed};
    SCOPED_TRACE(to_string(c));
    Random random(c.seed);
    auto input = make_input<double, double>(c, random);
    RuleFactory factory(c.shape(), random);
    const auto rules = factory.masks_and_scores(0.8, c.mask, c.score);
    const auto dout = random_tensor<double>(random, input.out_shape());
    Gradients<double> gradients(input);
    reference_backward(dout.view(), input.q.view(), input.rows_kv(), gradients.dq.view(),
                       gradients.dk.view(), gradients.dv.view(), rules);
    const auto check = [&](const char* name, TestTensor<double>& x, TestTensor<double>& gradient) {
      std::vector<double> exact;
      gradient.for_each([&](double& g) { exact.push_back(g); });
      std::size_t i = 0;
      RelativeError error;
      x.for_each([&](double& element) {
        error.add(exact[i++],
                  difference_quotient(element, 1e-3, [&] { return loss(input, dout, rules); }));
      });
      EXPECT_LE(error.value(), 1e-7) << name;
    };
    check("dq", input.q, gradients.dq);
    check("dk", input.k, gradients.dk);
    check("dv", input.v, gradients.dv);
  }
}

/// A bias with its gradient's rules: what acts before it, and a function that acts on it.
struct BiasCase {
  Eigen::Tensor<double, 4, Eigen::RowMajor> bias;
  std::vector<float> sinks;

  auto rules() const {
    return Causal{} & SoftCap{2.0f} & AdditiveBias{bias} &
           score_function([](auto x, const Where&) { return std::sin(x); },
                          [](auto x, const Where&) { return std::cos(x); }) &
           SinkLogits{sinks};
  }
};

TEST(ReferenceBackward, OfBiasAndSinksAgreesWithFiniteDifferences) {
  Random random(7);
  const Index batch = 2, group = 2, kv_heads = 2, q_len = 3, kv_len = 5;
  const AttentionInput<double, double> input{
      .q = random_tensor<double>(random, {batch, q_len, group * kv_heads, 4}),
      .k = random_tensor<double>(random, {batch, kv_len, kv_heads, 4}),
      .v = random_tensor<double>(random, {batch, kv_len, kv_heads, 3})};
  const auto dout = random_tensor<double>(random, input.out_shape());
  for (const auto& [b, h, i] : std::vector<std::array<Index, 3>>{
           {batch, group * kv_heads, q_len}, {1, group * kv_heads, q_len}, {batch, 1, 1}}) {
    SCOPED_TRACE(message("bias [", b, ", ", h, ", ", i, "]"));
    BiasCase c{{b, h, i, kv_len}, std::vector<float>(static_cast<std::size_t>(group * kv_heads))};
    for (Index e = 0; e < c.bias.size(); ++e) c.bias.data()[e] = random.normal();
    for (float& x : c.sinks) x = static_cast<float>(random.integer(-64, 64)) / 64;
    auto bias_gradient = c.bias;
    Gradients<double> gradients(input);
    std::vector<double> sink_gradient(c.sinks.size());
    reference_backward(dout.view(), input.q.view(), input.rows_kv(), gradients.dq.view(),
                       gradients.dk.view(), gradients.dv.view(), c.rules(),
                       {.bias_gradient = bias_gradient, .sink_gradient = sink_gradient});
    RelativeError bias, sinks;
    for (Index e = 0; e < c.bias.size(); ++e) {
      bias.add(bias_gradient.data()[e], difference_quotient(c.bias.data()[e], 1e-3, [&] {
                 return loss(input, dout, c.rules());
               }));
    }
    for (std::size_t e = 0; e < c.sinks.size(); ++e) {  // floats: the step is one of theirs
      sinks.add(sink_gradient[e], difference_quotient(c.sinks[e], 0x1p-8, [&] {
                  return loss(input, dout, c.rules());
                }));
    }
    EXPECT_LE(bias.value(), 1e-7);
    EXPECT_LE(sinks.value(), 1e-7);

    // And attend_backward() gives the same, with any number of threads the same bits.
    auto forward = attend_over<double>(input, input.rows_kv(), c.rules());
    std::optional<Eigen::Tensor<double, 4, Eigen::RowMajor>> first;
    for (const Index threads : {1, 2, 3, 8}) {
      Eigen::Tensor<double, 4, Eigen::RowMajor> actual(c.bias.dimensions());
      std::vector<double> actual_sinks(c.sinks.size(), -1);
      attend_backward(
          dout.view(), input.q.view(), input.rows_kv(), forward.out.view(), forward.lse_view(),
          gradients.dq.view(), gradients.dk.view(), gradients.dv.view(), c.rules(),
          {.bias_gradient = actual, .sink_gradient = actual_sinks}, TestExecutor{threads});
      for (Index e = 0; e < actual.size(); ++e) {
        ASSERT_NEAR(actual.data()[e], bias_gradient.data()[e], 1e-13);
      }
      for (std::size_t e = 0; e < c.sinks.size(); ++e) {
        ASSERT_NEAR(actual_sinks[e], sink_gradient[e], 1e-13);
      }
      if (!first) first = actual;
      EXPECT_EQ(std::memcmp(first->data(), actual.data(),
                            static_cast<std::size_t>(actual.size()) * sizeof(double)),
                0);
    }
  }
}

TEST(ReferenceBackward, OfRelativeBiasAgreesWithFiniteDifferences) {
  Random random(11);
  const Index heads = 6, buckets = 12;
  const AttentionInput<double, double> input{.q = random_tensor<double>(random, {2, 90, heads, 3}),
                                             .k = random_tensor<double>(random, {2, 70, 1, 3}),
                                             .v = random_tensor<double>(random, {2, 70, 1, 4})};
  const auto dout = random_tensor<double>(random, input.out_shape());
  std::vector<float> table(static_cast<std::size_t>(buckets * heads));
  for (float& x : table) x = static_cast<float>(random.integer(-64, 64)) / 64;
  const auto rules =
      Causal{} &
      RelativeBias{.table = table, .num_buckets = buckets, .num_heads = heads, .max_distance = 40};
  Gradients<double> gradients(input);
  std::vector<double> exact(table.size());
  reference_backward(dout.view(), input.q.view(), input.rows_kv(), gradients.dq.view(),
                     gradients.dk.view(), gradients.dv.view(), rules,
                     {.relative_bias_gradient = exact});
  RelativeError error;
  for (std::size_t i = 0; i < table.size(); i += 5) {  // floats: the step is one of theirs
    error.add(exact[i],
              difference_quotient(table[i], 0x1p-8, [&] { return loss(input, dout, rules); }));
  }
  EXPECT_LE(error.value(), 1e-7);

  // Several chunks of rows, and sequences, add to the same numbers: in one order.
  auto forward = attend_over<double>(input, input.rows_kv(), rules);
  std::vector<double> first;
  for (const Index threads : {1, 2, 8}) {
    std::vector<double> actual(table.size(), -1);
    attend_backward(dout.view(), input.q.view(), input.rows_kv(), forward.out.view(),
                    forward.lse_view(), gradients.dq.view(), gradients.dk.view(),
                    gradients.dv.view(), rules, {.relative_bias_gradient = actual},
                    TestExecutor{threads});
    for (std::size_t i = 0; i < exact.size(); ++i) ASSERT_NEAR(actual[i], exact[i], 1e-12) << i;
    if (first.empty()) first = actual;
    EXPECT_EQ(actual, first);
  }
}

}  // namespace
}  // namespace gqa::test
