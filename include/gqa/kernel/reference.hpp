// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The definition of attention, in double, from the formula, with the scores of a row in memory. It
// is what everything else is tested against, so it stays plain. Read it first.
#pragma once

#include <memory>
#include <vector>

#include "gqa/core/vector.hpp"
#include "gqa/kernel/call.hpp"
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

/// attend()'s twin: same arguments, same conventions, same errors; no executor. O(kv_len) memory
/// per row. Use attend().
template <typename Query, KvSource Source, typename Out, RulesOrPart RulesT>
GQA_TAG void reference(const Query& q_in, const Source& kv, Out&& out_in, const RulesT& rules_in,
                       const ReferenceOptions<AccumulatorOf<ScalarOf<const Query>>>& options = {}) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const auto& rules = as_rules(rules_in);
  const TensorView<const ScalarOf<const Query>> q = view(q_in);
  const auto call = detail::make_call("reference", q, kv, view(out_in), rules, options);
  using OutScalar = typename decltype(call.out)::Value;
  const AttentionShape& shape = call.shape;
  const double scale = rules.scale(shape.head_dim);

  for (Index b = 0; b < shape.batch; ++b) {
    const Index kv_len = kv.length(b);
    const auto n = static_cast<std::size_t>(kv_len);
    for (Index kv_head = 0; kv_head < shape.num_kv_heads; ++kv_head) {
      detail::Vector<double> k(n * static_cast<std::size_t>(shape.head_dim));  // [kv_len, head_dim]
      detail::Vector<double> v(n *
                               static_cast<std::size_t>(shape.value_dim));  // [kv_len, value_dim]
      const auto present = std::make_unique<bool[]>(n);                     // [kv_len]
      copy_rows(kv, b, kv_head, k.data(), v.data(), present.get());

      for (Index h = kv_head * shape.group(); h < (kv_head + 1) * shape.group(); ++h) {
        for (Index i = 0; i < (call.is_packed() ? call.q_len(b) : shape.q_len); ++i) {
          const bool exists = i < call.q_len(b);  // else: padding after a shorter sequence
          const auto* q_row = call.q_row(b, i, h);
          detail::Vector<double> s(n), p(n);
          detail::Vector<char> seen(n);
          const auto show = [&](ScoreStage stage, const detail::Vector<double>& x) {
            if (!options.scores || options.stage != stage) return;
            double* row =
                options.scores + ((b * shape.num_heads + h) * shape.q_len + i) * shape.kv_len;
            for (Index j = 0; j < shape.kv_len; ++j) {
              const bool hidden_from_view = j >= kv_len || !exists;
              row[j] = hidden_from_view ? 0.0 : x[static_cast<std::size_t>(j)];
            }
          };
          const auto where = [&](std::size_t j) {
            const Index key = static_cast<Index>(j);
            return Where{.batch = b,
                         .head = h,
                         .q_index = i,
                         .k_index = key,
                         .q_pos = call.q_pos(b, i),
                         .k_pos = first_position(kv, b) + key};
          };

          // s = scale q·k
          for (std::size_t j = 0; exists && j < n; ++j) {
            double dot = 0;
            for (Index c = 0; c < shape.head_dim; ++c) {
              dot += convert<double>(q_row[c]) *
                     k[j * static_cast<std::size_t>(shape.head_dim) + static_cast<std::size_t>(c)];
            }
            s[j] = dot * scale;
            seen[j] = present[j] && rules.visible(where(j));
          }
          show(ScoreStage::scaled, s);

          // soft cap, then biases, then masks
          for (std::size_t j = 0; exists && j < n; ++j) {
            s[j] = rules.template score_stage<ScoreStage::capped>(s[j], where(j));
          }
          show(ScoreStage::capped, s);
          for (std::size_t j = 0; exists && j < n; ++j) {
            s[j] = seen[j] ? rules.template score_stage<ScoreStage::biased>(s[j], where(j))
                           : -infinity;
          }
          show(ScoreStage::biased, s);

          // p = softmax(s), with the sink logit, if any, in the sum
          const double sink = convert<double>(rules.sink(h));
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
          OutScalar* y = call.out_row(b, i, h);
          for (Index c = 0; c < shape.value_dim; ++c) {
            double o = 0;
            for (std::size_t j = 0; j < n; ++j) {
              if (seen[j]) {
                o += p[j] *
                     v[j * static_cast<std::size_t>(shape.value_dim) + static_cast<std::size_t>(c)];
              }
            }
            y[c] = convert<OutScalar>(o);
          }
          if (options.lse) {
            using T = AccumulatorOf<ScalarOf<const Query>>;
            call.lse(b, h, i) =
                static_cast<T>(exists && sum != 0 ? max + std::log(sum) : -infinity);
          }
        }
      }
    }
  }
}

/// The same over plain tensors, as attend().
template <typename Query, typename Key, typename Value, typename Out, RulesOrPart RulesT>
  requires(!KvSource<Key>)
GQA_TAG void reference(const Query& q, const Key& k, const Value& v, Out&& out, const RulesT& rules,
                       const ReferenceOptions<AccumulatorOf<ScalarOf<const Query>>>& options = {}) {
  reference(q, rows_kv(k, v), out, rules, options);
}

}  // namespace gqa
