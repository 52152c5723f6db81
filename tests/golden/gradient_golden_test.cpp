// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The gradients that PyTorch's autograd computed in double, of every golden attention case that has
// them: through the reference and attend_backward() in double, where only rounding is left, and
// through attend_backward() in float. Out and lse are PyTorch's, too.
#include "golden_case.hpp"
#include "support/difference.hpp"
#include "support/gradient_check.hpp"

namespace gqa::test {
namespace {

std::vector<GoldenCase> cases_with_gradients() {
  std::vector<GoldenCase> cases;
  for (const GoldenCase& c : golden_cases("attention")) {
    if (c.has("dq")) cases.push_back(c);
  }
  return cases;
}

class GoldenGradientTest : public testing::TestWithParam<GoldenCase> {
 protected:
  template <Scalar T>
  static TestTensor<T> tensor(const char* name, const TensorShape& shape) {
    TestTensor<T> x(shape);
    fill_with(x, GetParam().tensor<T>(name));
    return x;
  }

  /// Within `tolerance` of the largest of `expected`.
  template <typename Actual>
  static void expect_near(const char* name, const Actual& actual, double tolerance) {
    const std::vector<double> expected = GetParam().tensor<double>(name);
    ASSERT_EQ(actual.size(), expected.size()) << name;
    double largest = 0, worst = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      largest = std::max(largest, std::abs(expected[i]));
      worst = std::max(worst, difference(actual[i], expected[i]));
    }
    EXPECT_LE(worst, tolerance * std::max(largest, 1.0)) << name;
  }
  template <Scalar T>
  static void expect_near(const char* name, TestTensor<T> actual, double tolerance) {
    std::vector<T> numbers;
    actual.for_each([&](T& x) { numbers.push_back(x); });
    expect_near(name, numbers, tolerance);
  }

  /// backward(input, dout, out, lse, gradients, rules, options) on the case's tensors as T.
  template <Scalar T, typename F>
  static void check(double tolerance, F backward) {
    const GoldenCase& c = GetParam();
    const auto input = golden_input<T>(c);
    const auto dout = tensor<T>("dout", input.out_shape());
    const auto out = tensor<T>("out", input.out_shape());
    std::vector<T> lse = c.tensor<T>("lse");
    const LseView<const T> lse_view(lse.data(), input.batch(), input.num_heads(), input.q_len());
    Gradients<T> gradients(input);
    const GoldenRules tables(c);
    const auto run = [&](const auto& rules, BackwardOptions<T> options) {
      options.q_lens = input.q_lens;
      options.positions = input.positions;
      options.sink_gradient = gradients.sinks;
      backward(input, dout, out, lse_view, gradients, rules, options);
    };
    bool done = false;
    if constexpr (std::same_as<T, double>) {  // types of rules of their own: once is enough
      done = true;
      if (c.has("dbias")) {
        const auto rules = as_rules(tables.bias());
        const auto& n = std::get<0>(rules.parts()).values.shape();
        std::vector<T> bias(c.tensor<T>("dbias").size());
        run(rules, {.bias_gradient = {bias.data(), {n.batch, n.num_heads, n.q_len, n.kv_len}}});
        expect_near("dbias", bias, tolerance);
      } else if (c.has("dt5_table")) {
        std::vector<T> table(c.tensor<T>("dt5_table").size());
        run(tables.scale() & tables.t5_bias(), {.relative_bias_gradient = table});
        expect_near("dt5_table", table, tolerance);
      } else {
        done = false;
      }
    }
    if (!done) {
      if (c.has("dsink_logits")) {
        gradients.sinks.resize(static_cast<std::size_t>(input.num_heads()));
      }
      run(tables.rules(), {});
      if (c.has("dsink_logits")) expect_near("dsink_logits", gradients.sinks, tolerance);
    }
    expect_near("dq", gradients.dq, tolerance);
    expect_near("dk", gradients.dk, tolerance);
    expect_near("dv", gradients.dv, tolerance);
  }
  template <Scalar T>
  static void check_attend_backward(double tolerance) {
    check<T>(tolerance, [](const auto& input, const auto& dout, const auto& out, const auto& lse,
                           auto& gradients, const auto& rules, const auto& options) {
      attend_backward(dout.view(), input.q.view(), input.rows_kv(), out.view(), lse,
                      gradients.dq.view(), gradients.dk.view(), gradients.dv.view(), rules,
                      options);
    });
  }
};

TEST_P(GoldenGradientTest, ReferenceInDouble) {
  check<double>(1e-12, [](const auto& input, const auto& dout, const auto&, const auto&,
                          auto& gradients, const auto& rules, const auto& options) {
    reference_backward(dout.view(), input.q.view(), input.rows_kv(), gradients.dq.view(),
                       gradients.dk.view(), gradients.dv.view(), rules, options);
  });
}

TEST_P(GoldenGradientTest, AttendBackwardInDouble) { check_attend_backward<double>(1e-12); }

TEST_P(GoldenGradientTest, AttendBackwardInFloat) { check_attend_backward<float>(1e-5); }

INSTANTIATE_TEST_SUITE_P(Golden, GoldenGradientTest, testing::ValuesIn(cases_with_gradients()),
                         golden_name);

}  // namespace
}  // namespace gqa::test
