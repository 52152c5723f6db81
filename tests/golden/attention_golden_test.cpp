// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Every golden attention case, out and lse as PyTorch computed them in double: through the
// reference and attend() in double, where only rounding is left, and through attend() in float.
#include "golden_case.hpp"

namespace gqa::test {
namespace {

class GoldenAttentionTest : public testing::TestWithParam<GoldenCase> {
 protected:
  /// What PyTorch gives for this input, and how far from it a result may be.
  template <Scalar T, typename RulesT>
  static Expected golden(const AttentionInput<T, T>& input, const RulesT& rules) {
    Expected expected = expect_attention(input, rules);  // for the tolerances of its rows
    fill_with(expected.result.out, GetParam().tensor<double>("out"));
    expected.result.lse = GetParam().tensor<double>("lse");
    return expected;
  }

  /// Calls fn(input, rules) with the case's tensors as T.
  template <Scalar T, typename F>
  static void with_case(F fn) {
    const auto input = golden_input<T>(GetParam());
    const GoldenRules tables(GetParam());
    fn(input, tables.rules());
  }
};

TEST_P(GoldenAttentionTest, ReferenceInDouble) {
  with_case<double>([](const auto& input, const auto& rules) {
    AttentionResult<double, double> result(input.out_shape());
    ReferenceOptions<double> options;
    options.lse = result.lse_view();
    options.positions = input.positions;
    reference(input.q.view(), input.rows_kv(), result.out.view(), rules, options);
    expect_close(result, golden(input, rules), "reference in double");
  });
}

TEST_P(GoldenAttentionTest, AttendInDouble) {
  with_case<double>([](const auto& input, const auto& rules) {
    expect_close(attend_over<double>(input, input.cache(), rules), golden(input, rules),
                 "attend in double");
  });
}

TEST_P(GoldenAttentionTest, AttendInFloat) {
  with_case<float>([](const auto& input, const auto& rules) {
    expect_close(attend_over<float>(input, input.cache(), rules), golden(input, rules),
                 "attend in float");
  });
}

INSTANTIATE_TEST_SUITE_P(Golden, GoldenAttentionTest, testing::ValuesIn(golden_cases("attention")),
                         golden_name);

}  // namespace
}  // namespace gqa::test
