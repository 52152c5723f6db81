// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The gradient of attention, in double, from the formulas, with the weights of a row in memory. It
// is what attend_backward() is tested against, so it stays plain. Of each row, forward and back:
//
//   s = scale q·k                        dq += scale ds k,  dk += scale ds q
//   t = rules(s)                         ds = dt rules'(s)
//   p = exp(t) / (Σ exp(t) + exp(sink))  dt = p (dp - p·dp),  dsink = -p_sink (p·dp)
//   out = p v                            dp = dout vᵀ,  dv += p dout
#pragma once

#include <memory>
#include <vector>

#include "gqa/core/vector.hpp"
#include "gqa/kernel/backward_call.hpp"
#include "gqa/kernel/reference.hpp"
#include "gqa/layout/pack.hpp"
#include "gqa/ops/softmax_state.hpp"

namespace gqa {
namespace detail {
inline namespace GQA_ISA {

/// Adds up the gradients of one KV head.
template <typename T>
class ReferenceGradient {
 public:
  ReferenceGradient(const BackwardCall<T>& call, const RulesView& rules, const void* source,
                    CopyRows copy_rows, Index batch, Index kv_head)
      : call_(call),
        rules_(rules),
        sequence_(call.sequence(batch)),
        kv_head_(kv_head),
        kv_len_(sequence_.length),
        scale_(rules.scale(call.shape.head_dim)),
        k_(size(kv_len_ * call.shape.head_dim)),
        v_(size(kv_len_ * call.shape.value_dim)),
        dk_(k_.size()),
        dv_(v_.size()),
        present_(std::make_unique<bool[]>(size(kv_len_))) {
    copy_rows(source, batch, kv_head, k_.data(), v_.data(), present_.get());
  }

  void add_row(Index h, Index i) {
    const AttentionShape& shape = call_.shape;
    const Index dim = shape.head_dim, value_dim = shape.value_dim, b = sequence_.batch;
    Vector<double> q(size(dim)), dout(size(value_dim));
    copy_row(call_.q.row(b, i, h), call_.q.dtype, dim, q.data());
    copy_row(call_.dout.row(b, i, h), call_.dout.dtype, value_dim, dout.data());
    struct Pair {
      Index j;
      double p, dp, of_score, of_bias;
    };
    Vector<Pair> pairs;  // what the row sees

    // t = rules(scale q·k), dp = dout vᵀ
    const double sink = static_cast<double>(rules_.sink(h));
    double max = sink;
    for (Index j = 0; j < kv_len_; ++j) {
      const Where where{.batch = b,
                        .head = h,
                        .q_index = i,
                        .k_index = j,
                        .q_pos = call_.q_pos(sequence_, i),
                        .k_pos = sequence_.first_position + j};
      if (!present_[size(j)] || !rules_.visible(where)) continue;
      double s = 0, dp = 0;
      for (Index c = 0; c < dim; ++c) s += q[size(c)] * k_[size(j * dim + c)];
      for (Index c = 0; c < value_dim; ++c) dp += dout[size(c)] * v_[size(j * value_dim + c)];
      double t = s * scale_, of_score = 1, of_bias = 1;
      for (const ScoreStage stage : {ScoreStage::capped, ScoreStage::biased}) {
        rules_.derivative_stage(stage, where, 1, &t, &of_score, &of_bias);
      }
      if (!(t <= max)) max = t;
      pairs.push_back({j, t, dp, of_score, of_bias});
    }

    // p = softmax(t), p·dp
    if (max == -std::numeric_limits<double>::infinity()) max = 0;  // as in reference()
    const double p_sink = exp_of_difference(sink - max);
    double sum = p_sink;
    for (Pair& pair : pairs) sum += pair.p = exp_of_difference(pair.p - max);
    double mean = 0;
    for (Pair& pair : pairs) mean += (pair.p /= sum) * pair.dp;

    Vector<double> dq(size(dim));
    for (const auto& [j, p, dp, of_score, of_bias] : pairs) {
      const double dt = p * (dp - mean), ds = scale_ * dt * of_score;
      for (Index c = 0; c < dim; ++c) {
        dq[size(c)] += ds * k_[size(j * dim + c)];
        dk_[size(j * dim + c)] += ds * q[size(c)];
      }
      for (Index c = 0; c < value_dim; ++c) dv_[size(j * value_dim + c)] += p * dout[size(c)];
      if (const auto& bias = call_.backward.bias_gradient) {
        bias.row(b, h, i)[j] += static_cast<T>(dt * of_bias);
      }
      if (const auto& table = call_.backward.relative_bias_gradient; !table.empty()) {
        const Index distance = sequence_.first_position + j - call_.q_pos(sequence_, i);
        const auto* bias =
            static_cast<const RelativeBias*>(rules_.find(PartKind::relative_bias)->part);
        table[size(bias->bucket_of(distance) * shape.num_heads + h)] +=
            static_cast<T>(dt * of_bias);
      }
    }
    if (!call_.backward.sink_gradient.empty() && !pairs.empty()) {
      call_.backward.sink_gradient[size(h)] -= static_cast<T>(p_sink / sum * mean);
    }
    write(call_.dq, b, i, h, dq.data());
  }

  void write_keys() const {
    const AttentionShape& shape = call_.shape;
    for (Index j = 0; j < kv_len_; ++j) {
      write(call_.dk, sequence_.batch, j, kv_head_, dk_.data() + j * shape.head_dim);
      write(call_.dv, sequence_.batch, j, kv_head_, dv_.data() + j * shape.value_dim);
    }
  }

 private:
  static std::size_t size(Index n) { return static_cast<std::size_t>(n); }
  static void write(const AnyRows<std::byte>& to, Index b, Index token, Index head,
                    const double* from) {
    write_row(from, 1.0, to.shape.dim, to.row(b, token, head), to.dtype);
  }

  const BackwardCall<T>& call_;
  const RulesView& rules_;
  Sequence sequence_;
  Index kv_head_, kv_len_;
  double scale_;
  Vector<double> k_, v_;    // [kv_len, head_dim], [kv_len, value_dim]
  Vector<double> dk_, dv_;  // likewise
  std::unique_ptr<bool[]> present_;
};

/// Zeroes everything that a backward pass adds to, or that belongs to no query or key.
inline void zero_all(const AnyRows<std::byte>& x) {
  for (Index b = 0; b < x.shape.batch; ++b) {
    for (Index t = 0; t < x.shape.tokens; ++t) {
      for (Index h = 0; h < x.shape.heads; ++h) zero_row(x.shape.dim, x.row(b, t, h), x.dtype);
    }
  }
}

/// A checked call.
template <typename T>
void run_reference_backward(const BackwardCall<T>& call, const void* source, CopyRows copy_rows) {
  const RulesView rules = call.rules_view();
  for (const auto* gradient : {&call.dq, &call.dk, &call.dv}) zero_all(*gradient);
  const BackwardOptions<T>& options = call.backward;
  std::fill_n(options.bias_gradient.data(),
              options.bias_gradient ? options.bias_gradient.size() : 0, T(0));
  std::fill(options.relative_bias_gradient.begin(), options.relative_bias_gradient.end(), T(0));
  std::fill(options.sink_gradient.begin(), options.sink_gradient.end(), T(0));
  for (Index b = 0; b < call.shape.batch; ++b) {
    for (Index kv_head = 0; kv_head < call.shape.num_kv_heads; ++kv_head) {
      ReferenceGradient<T> gradient(call, rules, source, copy_rows, b, kv_head);
      const Index group = call.shape.group();
      for (Index h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        for (Index i = 0; i < call.q_len(b); ++i) gradient.add_row(h, i);
      }
      gradient.write_keys();
    }
  }
}

}  // namespace GQA_ISA
}  // namespace detail

/// attend_backward()'s twin: the gradients dq, dk, dv (and those that options ask for) of
/// Σ out · dout, out being what reference() gives. Same arguments but for out and lse, which it
/// computes anew, same conventions, same errors; no executor. Any KvSource. Use attend_backward().
template <typename DOut, typename Query, KvSource Source, typename DQuery, typename DKey,
          typename DValue, RulesOrPart RulesT>
GQA_TAG void reference_backward(
    const DOut& dout, const Query& q, const Source& kv, DQuery&& dq, DKey&& dk, DValue&& dv,
    const RulesT& rules,
    const BackwardOptions<AccumulatorOf<ScalarOf<const Query>>>& options = {}) {
  using T = AccumulatorOf<ScalarOf<const Query>>;
  detail::require_derivatives<RulesT>();
  const TensorView<const ScalarOf<const Query>> q_view = view(q);
  const TensorView<const ScalarOf<const DOut>> dout_view = view(dout);
  const AttendOptions<T> forward{.q_lens = options.q_lens, .positions = options.positions};
  // There is no out to be given; this one is of the right shape, and nobody looks into it.
  T nothing = 0;
  const TensorView<T> out(&nothing,
                          {q_view.batch(), q_view.tokens(), q_view.heads(), kv.value_dim()});
  const auto parts = detail::any_parts(rules);
  auto call =
      detail::make_backward_call<T>(detail::make_call("reference_backward", q_view, kv, out, parts,
                                                      forward, detail::AnyExecutor()),
                                    dout_view, view(dq), view(dk), view(dv), options);
  detail::check_backward_call("reference_backward", call);
  detail::run_reference_backward(call, &kv, detail::copy_rows_of<Source>);
}

/// The same over plain tensors, as attend_backward().
template <typename DOut, typename Query, typename Key, typename Value, typename DQuery,
          typename DKey, typename DValue, RulesOrPart RulesT>
  requires(!KvSource<Key>)
GQA_TAG void reference_backward(
    const DOut& dout, const Query& q, const Key& k, const Value& v, DQuery&& dq, DKey&& dk,
    DValue&& dv, const RulesT& rules,
    const BackwardOptions<AccumulatorOf<ScalarOf<const Query>>>& options = {}) {
  reference_backward(dout, q, rows_kv(k, v), dq, dk, dv, rules, options);
}

}  // namespace gqa
