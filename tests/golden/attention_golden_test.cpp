// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Every golden attention case, out and lse: through the reference and attend() in double, where
// only rounding is left, and through attend() in float.
#include <cmath>

#include "golden_case.hpp"
#include "support/erased_rules.hpp"
#include "support/near.hpp"

namespace gqa::test {
namespace {

/// out [batch, q_len, num_heads, value_dim] and lse [batch, num_heads, q_len].
template <typename T>
struct Result {
  explicit Result(const AttentionShape& s)
      : out(static_cast<std::size_t>(s.batch * s.q_len * s.num_heads * s.value_dim), T(777)),
        lse(static_cast<std::size_t>(s.batch * s.num_heads * s.q_len), T(777)),
        out_view(out.data(), {s.batch, s.q_len, s.num_heads, s.value_dim}),
        lse_view(lse.data(), s.batch, s.num_heads, s.q_len) {}

  std::vector<T> out, lse;
  TensorView<T> out_view;
  LseView<T> lse_view;
};

class GoldenAttentionTest : public testing::TestWithParam<GoldenCase> {
 protected:
  /// Compares with PyTorch's, which were computed in double and stored as such.
  template <typename T>
  static void expect_golden(const Result<T>& result, double tolerance, const std::string& by) {
    expect_near(result.out, GetParam().tensor<double>("out"), tolerance, "out of " + by);
    expect_near(result.lse, GetParam().tensor<double>("lse"), tolerance, "lse of " + by);
  }

  /// How far a kernel that sums in T may be off. eps times: the sums over keys, and the error of
  /// scores of this size, which the exponential passes on to weights; for values of this size.
  template <typename T>
  static double tolerance(const GoldenAttention<T>& attention) {
    const AttentionShape& s = attention.shape();
    const double scale = GetParam().json.value("scale", 1 / std::sqrt(double(s.head_dim)));
    const auto largest_norm = [](TensorView<const T> x) {
      double largest = 0;
      for (Index b = 0; b < x.batch(); ++b) {
        for (Index t = 0; t < x.tokens(); ++t) {
          for (Index h = 0; h < x.heads(); ++h) {
            double sum = 0;
            for (Index i = 0; i < x.dim(); ++i)
              sum += double(x.row(b, t, h)[i]) * double(x.row(b, t, h)[i]);
            largest = std::max(largest, sum);
          }
        }
      }
      return std::sqrt(largest);
    };
    const double scores = scale * largest_norm(attention.q()) * largest_norm(attention.k());
    const double values = std::max(largest_norm(attention.v()), 1.0);
    const double eps = std::numeric_limits<T>::epsilon();
    return eps * (std::sqrt(double(s.kv_len)) + std::sqrt(double(s.head_dim)) * scores) * values;
  }
};

TEST_P(GoldenAttentionTest, ReferenceInDouble) {
  const GoldenAttention<double> attention(GetParam());
  Result<double> result(attention.shape());
  attention.with_rules([&](const auto& rules) {
    ReferenceOptions<double> options;
    options.lse = result.lse_view;
    options.positions = attention.positions();
    reference(attention.q(), rows_kv(attention.k(), attention.v(), attention.lengths()),
              result.out_view, erased(rules, attention.shape().head_dim), options);
  });
  expect_golden(result, tolerance(attention), "reference");
}

TEST_P(GoldenAttentionTest, AttendInDouble) {
  const GoldenAttention<double> attention(GetParam());
  const auto cache = attention.cache();
  Result<double> result(attention.shape());
  attention.with_rules([&](const auto& rules) {
    attend(attention.q(), cache, result.out_view, erased(rules, attention.shape().head_dim),
           {.lse = result.lse_view, .positions = attention.positions()});
  });
  expect_golden(result, tolerance(attention), "attend from a cache");
}

TEST_P(GoldenAttentionTest, AttendInFloat) {
  const GoldenAttention<float> attention(GetParam());
  const auto cache = attention.cache();
  Result<float> result(attention.shape());
  attention.with_rules([&](const auto& rules) {
    attend(attention.q(), cache, result.out_view, erased(rules, attention.shape().head_dim),
           {.lse = result.lse_view, .positions = attention.positions()});
  });
  expect_golden(result, tolerance(attention), "attend from a cache");
}

INSTANTIATE_TEST_SUITE_P(Golden, GoldenAttentionTest, testing::ValuesIn(golden_cases("attention")),
                         golden_name);

}  // namespace
}  // namespace gqa::test
