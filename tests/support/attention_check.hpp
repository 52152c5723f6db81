// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What attention should give and how far off a result may be: the reference run in double on the
// very numbers that the kernels were given, and the row scales of support/tolerance.hpp beside it.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "gqa/gqa.hpp"
#include "random.hpp"
#include "tolerance.hpp"

namespace gqa::test {

inline constexpr double infinity = std::numeric_limits<double>::infinity();

/// One call's queries, keys and values. Empty lengths, q_lens and positions stand for attend()'s
/// defaults.
template <Scalar Query, Scalar Storage>
struct AttentionInput {
  TestTensor<Query> q;                // [batch, q_len, num_heads, head_dim]
  TestTensor<Storage> k;              // [batch, kv_len, num_kv_heads, head_dim]
  TestTensor<Storage> v;              // [batch, kv_len, num_kv_heads, value_dim]
  std::vector<Index> lengths = {};    // [batch], keys of each sequence
  std::vector<Index> q_lens = {};     // [batch]
  std::vector<Index> positions = {};  // [batch, q_len]

  Index batch() const { return q.shape().batch; }
  Index q_len() const { return q.shape().tokens; }
  Index num_heads() const { return q.shape().heads; }
  Index length(Index b) const {
    return lengths.empty() ? k.shape().tokens : lengths[static_cast<std::size_t>(b)];
  }
  Index q_len(Index b) const {
    return q_lens.empty() ? q_len() : q_lens[static_cast<std::size_t>(b)];
  }
  Index q_pos(Index b, Index i) const {
    return positions.empty() ? length(b) - q_len(b) + i
                             : positions[static_cast<std::size_t>(b * q_len() + i)];
  }
  TensorShape out_shape() const {
    return {q.shape().batch, q.shape().tokens, q.shape().heads, v.shape().dim};
  }
  std::size_t lse_size() const { return static_cast<std::size_t>(batch() * num_heads() * q_len()); }

  RowsKv<Storage> rows_kv() const { return {k.view(), v.view(), lengths}; }

  /// A cache that holds these keys and values.
  KvCache<Storage> cache(Index spare = 0) const {
    KvCache<Storage> cache({.batch = batch(),
                            .capacity = k.shape().tokens + spare,
                            .heads = {num_heads(), k.shape().heads, k.shape().dim, v.shape().dim}});
    cache.append(k.view(), v.view(), lengths);
    return cache;
  }
};

/// Out and lse as they came out of attend() or reference().
template <Scalar Out, typename T>
struct AttentionResult {
  TestTensor<Out> out;  // [batch, q_len, num_heads, value_dim]
  std::vector<T> lse;   // [batch, num_heads, q_len]

  explicit AttentionResult(const TensorShape& shape, Layout layout = Layout::dense)
      : out(shape, layout),
        lse(static_cast<std::size_t>(shape.batch * shape.tokens * shape.heads), T(-12345)) {
    out.fill(-12345);  // so that what isn't written shows
  }
  LseView<T> lse_view() {
    return {lse.data(), out.shape().batch, out.shape().heads, out.shape().tokens};
  }
  friend bool same_bits(const AttentionResult& a, const AttentionResult& b) {
    return same_bits(a.out.storage(), b.out.storage()) && same_bits(a.lse, b.lse);
  }
};

/// attend() of an input against any source of its keys and values.
template <Scalar Out = float, Scalar Query, Scalar Storage, KvSource Source, typename RulesT,
          typename ExecutorT = const Serial>
auto attend_over(const AttentionInput<Query, Storage>& input, const Source& source,
                 const RulesT& rules, ExecutorT&& executor = Serial{},
                 Layout layout = Layout::dense, Workspace* workspace = nullptr) {
  AttentionResult<Out, AccumulatorOf<Query>> result(input.out_shape(), layout);
  attend(input.q.view(), source, result.out.view(), rules,
         {.lse = result.lse_view(),
          .q_lens = input.q_lens,
          .positions = input.positions,
          .workspace = workspace},
         executor);
  return result;
}

/// The exact result.
struct Expected {
  AttentionResult<double, double> result;
  std::vector<RowScale> rows;  // [batch, num_heads, q_len]
};

namespace detail {

inline double norm(const double* x, Index n) {
  double sum = 0;
  for (Index i = 0; i < n; ++i) sum += x[i] * x[i];
  return std::sqrt(sum);
}
inline double largest(const double* x, Index n) {
  double max = 0;
  for (Index i = 0; i < n; ++i) max = std::max(max, std::abs(x[i]));
  return max;
}

/// Gathers the RowScale of one query row. `k_norms`, `v_sizes`: of the keys of its KV head.
template <Scalar Query, Scalar Storage, typename RulesT>
RowScale row_scale(const RulesT& rules, Where where, Index kv_len, double q_norm, double scale,
                   double head_dim, const std::vector<double>& k_norms,
                   const std::vector<double>& v_sizes) {
  RowScale row = RowScale::of<Query, Storage>(head_dim);
  for (Index j = 0; j < kv_len; ++j) {
    where.k_index = where.k_pos = j;
    if (!rules.visible(where)) continue;
    const double score = std::abs(scale) * q_norm * k_norms[static_cast<std::size_t>(j)];
    row.kv_len += 1;
    row.max_score = std::max(row.max_score, score);
    // Cauchy-Schwarz bounds every score of this key; a bias is what a score of 0 becomes.
    double bias = 0;
    rules.score_stage(ScoreStage::capped, where, 1, &bias);
    rules.score_stage(ScoreStage::biased, where, 1, &bias);
    row.max_bias = std::max(row.max_bias, std::abs(bias));
    row.max_value = std::max(row.max_value, v_sizes[static_cast<std::size_t>(j)]);
  }
  return row;
}

}  // namespace detail

template <Scalar Query, Scalar Storage, typename RulesT>
Expected expect_attention(const AttentionInput<Query, Storage>& input, const RulesT& rules_in) {
  const auto parts = gqa::detail::any_parts(rules_in);
  const gqa::detail::RulesView rules(parts);
  const TestTensor<double> q = input.q.template to<double>();
  const TestTensor<double> k = input.k.template to<double>();
  const TestTensor<double> v = input.v.template to<double>();
  Expected expected{AttentionResult<double, double>(input.out_shape()), {}};

  ReferenceOptions<double> options;
  options.lse = expected.result.lse_view();
  options.q_lens = input.q_lens;
  options.positions = input.positions;
  reference(q.view(), RowsKv<double>(k.view(), v.view(), input.lengths), expected.result.out.view(),
            rules_in, options);

  expected.rows.resize(input.lse_size());
  const Index head_dim = q.shape().dim, group = q.shape().heads / k.shape().heads;
  const double scale = rules.scale(head_dim);
  for (Index b = 0; b < input.batch(); ++b) {
    for (Index kv_head = 0; kv_head < k.shape().heads; ++kv_head) {
      std::vector<double> k_norms, v_sizes;
      for (Index j = 0; j < input.length(b); ++j) {
        k_norms.push_back(detail::norm(k.row(b, j, kv_head), head_dim));
        v_sizes.push_back(detail::largest(v.row(b, j, kv_head), v.shape().dim));
      }
      for (Index h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        for (Index i = 0; i < input.q_len(b); ++i) {
          const Where where{.batch = b, .head = h, .q_index = i, .q_pos = input.q_pos(b, i)};
          expected.rows[static_cast<std::size_t>((b * input.num_heads() + h) * input.q_len() + i)] =
              detail::row_scale<Query, Storage>(rules, where, input.length(b),
                                                detail::norm(q.row(b, i, h), head_dim), scale,
                                                static_cast<double>(head_dim), k_norms, v_sizes);
        }
      }
    }
  }
  return expected;
}

/// Every element of out and lse within its row's tolerance. Returns the largest error in units of
/// tolerances.
template <Scalar Out, typename T>
double expect_close(const AttentionResult<Out, T>& actual, const Expected& expected,
                    const std::string& what) {
  const TensorShape& shape = actual.out.shape();
  Comparison out(what + ", out"), lse(what + ", lse");
  for (Index b = 0; b < shape.batch; ++b) {
    for (Index h = 0; h < shape.heads; ++h) {
      for (Index i = 0; i < shape.tokens; ++i) {
        const auto r = static_cast<std::size_t>((b * shape.heads + h) * shape.tokens + i);
        const RowScale& row = expected.rows[r];
        const auto where = [&] { return message("[", b, ", ", i, ", ", h, "]"); };
        const double exact_lse = expected.result.lse[r];
        lse.add(static_cast<double>(actual.lse[r]), exact_lse, row.lse_tolerance<T>(exact_lse),
                where);
        const Out* y = actual.out.row(b, i, h);
        const double* exact = expected.result.out.row(b, i, h);
        for (Index c = 0; c < shape.dim; ++c) {
          out.add(convert<double>(y[c]), exact[c], row.out_tolerance<T, Out>(exact[c]), where);
        }
      }
    }
  }
  out.expect_all();
  lse.expect_all();
  return std::max(out.worst_ratio(), lse.worst_ratio());
}

}  // namespace gqa::test
