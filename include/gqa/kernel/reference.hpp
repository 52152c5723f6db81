// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The definition of attention, in double, from the formula, with the scores of a row in memory. It
// is what everything else is tested against, so it stays plain. Read it first.
#pragma once

#include <memory>
#include <vector>

#include "gqa/core/vector.hpp"
#include "gqa/kernel/check_call.hpp"
#include "gqa/kernel/rows_kv.hpp"
#include "gqa/layout/pack.hpp"
#include "gqa/ops/softmax_state.hpp"

namespace gqa {

/// AttendOptions, and a look inside.
template <typename T>
struct ReferenceOptions : AttendOptions<T> {
  /// Receives the scores at `stage`, dense [batch, num_heads, q_len, kv_len of the longest
  /// sequence]. Hidden scores are shown as what they are before `biased`, as -inf there, as 0 after
  /// `softmax`.
  double* scores = nullptr;
  ScoreStage stage = ScoreStage::softmax;
};

namespace detail {
inline namespace GQA_ISA {

/// copy_rows() of a source's own type.
using CopyRows = void (*)(const void* source, Index b, Index kv_head, double* keys, double* values,
                          bool* present);
template <KvSource Source>
void copy_rows_of(const void* source, Index b, Index kv_head, double* keys, double* values,
                  bool* present) {
  copy_rows(*static_cast<const Source*>(source), b, kv_head, keys, values, present);
}

/// Where reference() is to show scores, and at which stage.
struct ShownScores {
  double* scores = nullptr;
  ScoreStage stage = ScoreStage::softmax;
};

/// A checked call.
inline void run_reference(const AttentionCall& call, const void* source, CopyRows copy_rows,
                          const ShownScores& shown) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const RulesView rules = call.rules_view();
  const AttentionShape& shape = call.shape;
  const double scale = rules.scale(shape.head_dim);
  const auto size = [](Index n) { return static_cast<std::size_t>(n); };
  Vector<double> q_room(size(shape.head_dim)), y(size(shape.value_dim));

  for (Index b = 0; b < shape.batch; ++b) {
    const Sequence sequence = call.sequence(b);
    const Index kv_len = sequence.length;
    const auto n = size(kv_len);
    for (Index kv_head = 0; kv_head < shape.num_kv_heads; ++kv_head) {
      Vector<double> k(n * size(shape.head_dim));        // [kv_len, head_dim]
      Vector<double> v(n * size(shape.value_dim));       // [kv_len, value_dim]
      const auto present = std::make_unique<bool[]>(n);  // [kv_len]
      copy_rows(source, b, kv_head, k.data(), v.data(), present.get());

      for (Index h = kv_head * shape.group(); h < (kv_head + 1) * shape.group(); ++h) {
        for (Index i = 0; i < (call.is_packed() ? sequence.q_len : shape.q_len); ++i) {
          const bool exists = i < sequence.q_len;  // else: padding after a shorter sequence
          Vector<double> s(n), p(n);
          Vector<char> seen(n);
          const auto show = [&](ScoreStage stage, const Vector<double>& x) {
            if (!shown.scores || shown.stage != stage) return;
            double* row =
                shown.scores + ((b * shape.num_heads + h) * shape.q_len + i) * shape.kv_len;
            for (Index j = 0; j < shape.kv_len; ++j) {
              row[j] = j >= kv_len || !exists ? 0.0 : x[size(j)];
            }
          };
          const auto where = [&](std::size_t j) {
            const Index key = static_cast<Index>(j);
            return Where{.batch = b,
                         .head = h,
                         .q_index = i,
                         .k_index = key,
                         .q_pos = call.q_pos(sequence, i),
                         .k_pos = sequence.first_position + key};
          };

          // s = scale q·k
          const double* q =
              read_row(call.row(call.q, b, i, h), call.q.dtype, shape.head_dim, q_room.data());
          for (std::size_t j = 0; exists && j < n; ++j) {
            double dot = 0;
            for (Index c = 0; c < shape.head_dim; ++c) {
              dot += q[c] * k[j * size(shape.head_dim) + size(c)];
            }
            s[j] = dot * scale;
            seen[j] = present[j] && rules.visible(where(j));
          }
          show(ScoreStage::scaled, s);

          // soft cap, then biases, then masks
          for (std::size_t j = 0; exists && j < n; ++j) {
            rules.score_stage(ScoreStage::capped, where(j), 1, &s[j]);
          }
          show(ScoreStage::capped, s);
          for (std::size_t j = 0; exists && j < n; ++j) {
            if (seen[j]) rules.score_stage(ScoreStage::biased, where(j), 1, &s[j]);
            if (!seen[j]) s[j] = -infinity;
          }
          show(ScoreStage::biased, s);

          // p = softmax(s), with the sink logit, if any, in the sum
          const double sink = static_cast<double>(rules.sink(h));
          double max = sink;
          for (std::size_t j = 0; j < n; ++j) {
            if (seen[j] && !(s[j] <= max)) max = s[j];  // a visible NaN becomes the maximum
          }
          if (max == -infinity) max = 0;  // no visible key: e^(-inf - 0) = 0
          double sum = exp_of_difference(sink - max);
          for (std::size_t j = 0; j < n; ++j) {
            p[j] = seen[j] ? exp_of_difference(s[j] - max) : 0.0;
            sum += p[j];
          }
          for (std::size_t j = 0; j < n; ++j) {
            if (seen[j] && sum != 0) p[j] /= sum;
          }
          show(ScoreStage::softmax, p);

          // out = p v, over visible keys: what is hidden doesn't exist, not even as 0 · NaN
          for (Index c = 0; c < shape.value_dim; ++c) {
            double o = 0;
            for (std::size_t j = 0; j < n; ++j) {
              if (seen[j]) o += p[j] * v[j * size(shape.value_dim) + size(c)];
            }
            y[size(c)] = o;
          }
          write_row(y.data(), 1.0, shape.value_dim, call.row(call.out, b, i, h), call.out.dtype);
          if (call.lse) {
            const double lse = exists && sum != 0 ? max + std::log(sum) : -infinity;
            if (call.q.dtype == Dtype::f64) {
              call.lse_of<double>(b, h, i) = lse;
            } else {
              call.lse_of<float>(b, h, i) = static_cast<float>(lse);
            }
          }
        }
      }
    }
  }
}

}  // namespace GQA_ISA
}  // namespace detail

/// attend()'s twin: same arguments, same conventions, same errors; no executor. O(kv_len) memory
/// per row. Use attend().
template <typename Query, KvSource Source, typename Out, RulesOrPart RulesT>
GQA_TAG void reference(const Query& q, const Source& kv, Out&& out, const RulesT& rules,
                       const ReferenceOptions<AccumulatorOf<ScalarOf<const Query>>>& options = {}) {
  const TensorView<const ScalarOf<const Query>> q_view = view(q);
  const auto parts = detail::any_parts(rules);
  auto call =
      detail::make_call("reference", q_view, kv, view(out), parts, options, detail::AnyExecutor());
  detail::check_call("reference", call);
  detail::run_reference(call, &kv, detail::copy_rows_of<Source>, {options.scores, options.stage});
}

/// The same over plain tensors, as attend().
template <typename Query, typename Key, typename Value, typename Out, RulesOrPart RulesT>
  requires(!KvSource<Key>)
GQA_TAG void reference(const Query& q, const Key& k, const Value& v, Out&& out, const RulesT& rules,
                       const ReferenceOptions<AccumulatorOf<ScalarOf<const Query>>>& options = {}) {
  reference(q, rows_kv(k, v), out, rules, options);
}

}  // namespace gqa
