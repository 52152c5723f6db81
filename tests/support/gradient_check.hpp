// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What the gradients of attention should be and how far off they may be: reference_backward() in
// double on the very numbers that attend_backward() was given, and tolerances that follow from
// those of the forward pass (row_scale.hpp). With r a row's relative error of its weights, and dp
// at most D = |dout| max_j |v_j|, whose sum of value_dim products errs by c2 eps sqrt(value_dim) D,
//
//   ds_j = p_j (dp_j - delta) errs by p_j e,  e = 2 D (r + eps (c2 sqrt(value_dim) + c1
//   sqrt(kv_len)))
//
// so that a row's dq errs by scale e max_j |k_j|, and a key's sums over rows by
//
//   dk_j: scale Σ_rows p_j (e + 2 D eps c1 sqrt(rows)) |q|      dv_j: Σ_rows p_j (r + eps c1
//   sqrt(rows)) |dout|
//
// where |k_j|, |q| and the last |dout| are largest elements. A weight below the smallest normal
// number is 0, so p_j also errs by that. No score rule here has a derivative above 1.
#pragma once

#include "attention_check.hpp"

namespace gqa::test {

/// The gradients of one call.
template <Scalar T>
struct Gradients {
  TestTensor<T> dq, dk, dv;
  std::vector<T> sinks = {};  // [num_heads]

  template <Scalar Query, Scalar Storage>
  explicit Gradients(const AttentionInput<Query, Storage>& input, Layout layout = Layout::dense)
      : dq(input.q.shape(), layout), dk(input.k.shape(), layout), dv(input.v.shape(), layout) {
    for (auto* x : {&dq, &dk, &dv}) x->fill(-12345);  // so that what isn't written shows
  }
  friend bool same_bits(const Gradients& a, const Gradients& b) {
    return same_bits(a.dq.storage(), b.dq.storage()) && same_bits(a.dk.storage(), b.dk.storage()) &&
           same_bits(a.dv.storage(), b.dv.storage()) && same_bits(a.sinks, b.sinks);
  }
};

template <typename T, Scalar Query, Scalar Storage>
BackwardOptions<T> backward_options(const AttentionInput<Query, Storage>& input,
                                    Gradients<T>& gradients) {
  return {.q_lens = input.q_lens, .positions = input.positions, .sink_gradient = gradients.sinks};
}

/// attend_backward() after attend(), whose results are `forward`.
template <Scalar Query, Scalar Storage, typename T, typename RulesT,
          typename ExecutorT = const Serial>
Gradients<T> backward_of(const AttentionInput<Query, Storage>& input, const TestTensor<T>& dout,
                         AttentionResult<T, T>& forward, const RulesT& rules,
                         ExecutorT&& executor = Serial{}, Layout layout = Layout::dense) {
  Gradients<T> gradients(input, layout);
  if constexpr (RulesT::has_sinks)
    gradients.sinks.assign(static_cast<std::size_t>(input.num_heads()), T(-1));
  attend_backward(dout.view(), input.q.view(), input.rows_kv(), forward.out.view(),
                  forward.lse_view(), gradients.dq.view(), gradients.dk.view(), gradients.dv.view(),
                  rules, backward_options(input, gradients), executor);
  return gradients;
}

/// The exact gradients, and how far off those in T may be.
template <typename T>
struct ExpectedGradients {
  Gradients<double> exact;
  Gradients<double> tolerance;

  template <Scalar Query, Scalar Storage, typename RulesT>
  ExpectedGradients(const AttentionInput<Query, Storage>& input, const TestTensor<T>& dout,
                    const RulesT& rules)
      : exact(input), tolerance(input) {
    const AttentionInput<double, double> in{input.q.template to<double>(),
                                            input.k.template to<double>(),
                                            input.v.template to<double>(),
                                            input.lengths,
                                            input.q_lens,
                                            input.positions};
    const TestTensor<double> dy = dout.template to<double>();
    for (Gradients<double>* x : {&exact, &tolerance}) {
      if constexpr (RulesT::has_sinks) x->sinks.resize(static_cast<std::size_t>(in.num_heads()));
    }
    reference_backward(dy.view(), in.q.view(), in.rows_kv(), exact.dq.view(), exact.dk.view(),
                       exact.dv.view(), rules, backward_options(in, exact));
    find_tolerances(in, dy, rules, expect_attention(input, rules).rows);
  }

  /// Every element within its tolerance. Returns the largest error in units of tolerances.
  double expect_close(const Gradients<T>& actual, const std::string& what) const {
    double worst = 0;
    const auto compare = [&](const char* name, const TestTensor<T>& x, const TestTensor<double>& y,
                             const TestTensor<double>& bound) {
      Comparison comparison(what + ", " + name);
      const TensorShape& n = x.shape();
      for (Index b = 0; b < n.batch; ++b) {
        for (Index t = 0; t < n.tokens; ++t) {
          for (Index h = 0; h < n.heads; ++h) {
            for (Index c = 0; c < n.dim; ++c) {
              comparison.add(double{x.row(b, t, h)[c]}, y.row(b, t, h)[c], bound.row(b, t, h)[c],
                             [&] { return message("[", b, ", ", t, ", ", h, ", ", c, "]"); });
            }
          }
        }
      }
      comparison.expect_all();
      worst = std::max(worst, comparison.worst_ratio());
    };
    compare("dq", actual.dq, exact.dq, tolerance.dq);
    compare("dk", actual.dk, exact.dk, tolerance.dk);
    compare("dv", actual.dv, exact.dv, tolerance.dv);
    Comparison sinks(what + ", sink gradient");
    EXPECT_EQ(actual.sinks.size(), exact.sinks.size());
    for (std::size_t h = 0; h < exact.sinks.size(); ++h) {
      sinks.add(double{actual.sinks[h]}, exact.sinks[h], tolerance.sinks[h],
                [h] { return message("[", h, "]"); });
    }
    sinks.expect_all();
    return std::max(worst, sinks.worst_ratio());
  }

 private:
  template <typename RulesT>
  void find_tolerances(const AttentionInput<double, double>& in, const TestTensor<double>& dout,
                       const RulesT& rules, const std::vector<RowScale>& rows) {
    const Index heads = in.num_heads(), kv_len = in.k.shape().tokens;
    const Index group = heads / in.k.shape().heads, q_len = in.q_len();
    const Index dim = in.q.shape().dim, value_dim = in.v.shape().dim;
    const double least = std::numeric_limits<T>::min();
    const double eps = epsilon<T>, scale = std::abs(as_rules(rules).scale(dim));
    const double rows_of_sum = c1 * std::sqrt(static_cast<double>(group * q_len));
    // The weights of all rows, and what they are summed to.
    std::vector<double> weights(static_cast<std::size_t>(in.batch() * heads * q_len * kv_len) + 1);
    AttentionResult<double, double> out(in.out_shape());
    ReferenceOptions<double> options;
    options.q_lens = in.q_lens;
    options.positions = in.positions;
    options.scores = weights.data();
    reference(in.q.view(), in.rows_kv(), out.out.view(), rules, options);
    Index longest = 0;
    for (Index b = 0; b < in.batch(); ++b) longest = std::max(longest, in.length(b));

    for (auto* x : {&tolerance.dq, &tolerance.dk, &tolerance.dv}) x->fill(0);
    for (Index b = 0; b < in.batch(); ++b) {
      for (Index h = 0; h < heads; ++h) {
        for (Index i = 0; i < in.q_len(b); ++i) {
          const Index r = (b * heads + h) * q_len + i;
          const double* p = weights.data() + r * longest;
          const double relative = rows[static_cast<std::size_t>(r)].template relative<T>();
          double largest_k = 0, longest_v = 0, seen = 0, sum = 0;
          for (Index j = 0; j < in.length(b); ++j) {
            const Where where{.batch = b,
                              .head = h,
                              .q_index = i,
                              .k_index = j,
                              .q_pos = in.q_pos(b, i),
                              .k_pos = j};
            if (!rules.visible(where)) continue;
            largest_k = std::max(largest_k, detail::largest(in.k.row(b, j, h / group), dim));
            longest_v = std::max(longest_v, detail::norm(in.v.row(b, j, h / group), value_dim));
            seen += 1;
            sum += p[j];
          }
          const double d = 2 * detail::norm(dout.row(b, i, h), value_dim) * longest_v;
          const double e = d * (relative + eps * (c2 * std::sqrt(static_cast<double>(value_dim)) +
                                                  c1 * std::sqrt(seen)));
          tolerance.dq.fill_row(b, i, h, scale * (e + seen * least * d) * largest_k);
          const double q = detail::largest(in.q.row(b, i, h), dim);
          const double dy = detail::largest(dout.row(b, i, h), value_dim);
          for (Index j = 0; j < in.length(b); ++j) {
            double* dk = tolerance.dk.row(b, j, h / group);
            double* dv = tolerance.dv.row(b, j, h / group);
            for (Index c = 0; c < dim; ++c)
              dk[c] += scale * (p[j] * (e + d * eps * rows_of_sum) + least * d) * q;
            for (Index c = 0; c < value_dim; ++c)
              dv[c] += (p[j] * (relative + eps * rows_of_sum) + least) * dy;
          }
          if (!tolerance.sinks.empty()) {
            const double batch_sum = c1 * std::sqrt(static_cast<double>(in.batch() * q_len));
            tolerance.sinks[static_cast<std::size_t>(h)] +=
                std::abs(1 - sum) * (e + d * eps * batch_sum) + least * d;
          }
        }
      }
    }
  }
};

}  // namespace gqa::test
