// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// One call of attend() or reference(): its arguments as views, checked against one another.
// Everything behind the front doors relies on these checks.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "gqa/core/kv_source.hpp"
#include "gqa/core/view.hpp"
#include "gqa/core/workspace.hpp"
#include "gqa/kernel/dropped_keys.hpp"
#include "gqa/layout/quantize.hpp"
#include "gqa/score/rules.hpp"

namespace gqa {

/// What a call may add to q, keys, values, out and rules. T is float; double for double queries.
template <typename T>
struct AttendOptions {
  /// Receives the natural logarithm of each row's sum of e^score (scaled, capped, biased, sink
  /// logit included), [batch, num_heads, q_len]; -inf for a row that sees no key.
  LseView<T> lse = {};
  /// Queries per sequence, [batch], where they differ; each at most q's q_len. The rows after them
  /// are given out = 0 and lse = -inf.
  std::span<const Index> q_lens = {};
  /// Queries of different numbers without gaps: q, out, lse and positions have batch 1 and the
  /// tokens of all sequences, those of sequence b in [q_starts[b], q_starts[b + 1]); [batch + 1],
  /// from 0 to the number of tokens (FlashAttention's cu_seqlens_q).
  std::span<const Index> q_starts = {};
  /// Positions of the queries, [batch, q_len]. Default: the sequence's last ones, query i at
  /// length - q_len + i, which may be negative. Beyond farthest_position there is no other one.
  std::span<const Index> positions = {};
  /// Scratch that calls share, and what the program reads between them
  /// (Workspace::set_working_set()). Without one, a call allocates its own.
  Workspace* workspace = nullptr;
};

namespace detail {

template <Scalar Query, Scalar Out, KvSource SourceT, typename RulesT>
struct Call {
  using Source = SourceT;
  using T = AccumulatorOf<Query>;
  using Storage = Native<typename Source::Storage>;
  using Rules = RulesT;
  static_assert(
      std::same_as<AccumulatorOf<Query>, AccumulatorOf<Storage>> &&
          std::same_as<AccumulatorOf<Query>, AccumulatorOf<Out>>,
      "gqa: queries, keys and outputs are all double, or none is: sums are kept in double "
      "for double and in float for float, bfloat16 and half");

  TensorView<const Query> q;
  const Source& source;
  TensorView<Out> out;
  const RulesT& rules;
  const AttendOptions<T>& options;
  AttentionShape shape;

  /// The same call over other keys and values.
  template <KvSource Other>
  GQA_TAG Call<Query, Out, Other, RulesT> with_source(const Other& other) const {
    return {q, other, out, rules, options, shape};
  }

  GQA_TAG bool is_packed() const { return !options.q_starts.empty(); }
  GQA_TAG Index q_len(Index b) const {
    if (is_packed()) return start(b + 1) - start(b);
    return options.q_lens.empty() ? q.tokens() : options.q_lens[static_cast<std::size_t>(b)];
  }
  GQA_TAG Index q_pos(Index b, Index i) const {
    if (options.positions.empty()) {
      return first_position(source, b) + source.length(b) - q_len(b) + i;
    }
    const Index at = is_packed() ? start(b) + i : b * q.tokens() + i;
    return std::clamp(options.positions[static_cast<std::size_t>(at)], -farthest_position,
                      farthest_position);
  }
  /// The smallest and the largest position of queries [begin, end) of sequence b, end > begin.
  GQA_TAG std::pair<Index, Index> q_pos_range(Index b, Index begin, Index end) const {
    std::pair range(q_pos(b, begin), q_pos(b, begin));
    for (Index i = begin + 1; i < end; ++i) {
      range.first = (std::min)(range.first, q_pos(b, i));
      range.second = (std::max)(range.second, q_pos(b, i));
    }
    return range;
  }
  /// Query rows that read one KV head.
  GQA_TAG Index rows(Index b) const { return q_len(b) * shape.group(); }

  /// Query i of sequence b: its numbers, its result, its lse.
  GQA_TAG const Query* q_row(Index b, Index i, Index head) const {
    return is_packed() ? q.row(0, start(b) + i, head) : q.row(b, i, head);
  }
  GQA_TAG Out* out_row(Index b, Index i, Index head) const {
    return is_packed() ? out.row(0, start(b) + i, head) : out.row(b, i, head);
  }
  GQA_TAG T& lse(Index b, Index head, Index i) const {
    return is_packed() ? options.lse(0, head, start(b) + i) : options.lse(b, head, i);
  }
  /// Where sequence b's tokens begin in packed queries.
  GQA_TAG Index start(Index b) const { return options.q_starts[static_cast<std::size_t>(b)]; }
};

/// Throws std::invalid_argument, prefixed with the caller's name, for arguments that contradict;
/// std::length_error for a head_dim beyond max_head_dim.
template <Scalar Query, Scalar Out, KvSource Source, typename RulesT>
GQA_TAG auto make_call(const char* who, TensorView<const Query> q, const Source& source,
                       TensorView<Out> out, const RulesT& rules,
                       const AttendOptions<AccumulatorOf<Query>>& options) {
  const auto same = [who](Index a, const char* a_name, Index b, const char* b_name) {
    require(a == b, who, ": ", a_name, " is ", a, ", but ", b_name, " is ", b);
  };
  const std::span<const Index> starts = options.q_starts;
  const Index batch = starts.empty() ? q.batch() : std::ssize(starts) - 1;
  if (!starts.empty()) {
    require(q.batch() == 1, who, ": q_starts divide queries of batch 1, these have ", q.batch());
    require(options.q_lens.empty(), who, ": q_starts and q_lens are both given");
    require(starts.front() == 0 && starts.back() == q.tokens() &&
                std::is_sorted(starts.begin(), starts.end()),
            who, ": q_starts go from ", starts.front(), " to ", starts.back(),
            ", and must rise from 0 to the number of tokens, ", q.tokens());
  }
  same(source.batch(), "the keys' batch", batch, "the queries'");
  same(source.head_dim(), "the keys' head_dim", q.dim(), "the queries'");
  require(q.heads() > 0 && source.num_kv_heads() > 0, who, ": num_heads ", q.heads(),
          " and num_kv_heads ", source.num_kv_heads(), " must be positive");
  require(q.heads() % source.num_kv_heads() == 0, who, ": num_kv_heads ", source.num_kv_heads(),
          " does not divide num_heads ", q.heads());
  require(q.dim() > 0 && source.value_dim() > 0, who, ": head_dim ", q.dim(), " and value_dim ",
          source.value_dim(), " must be positive");
  check_head_dim<typename Source::Storage>(who, q.dim());
  const TensorShape expected{q.batch(), q.tokens(), q.heads(), source.value_dim()};
  require(out.shape() == expected, who, ": out is ", out.shape(), ", expected ", expected);
  if (options.lse) {
    same(options.lse.batch(), "lse's batch", q.batch(), "the queries'");
    same(options.lse.num_heads(), "lse's num_heads", q.heads(), "the queries'");
    same(options.lse.q_len(), "lse's q_len", q.tokens(), "the queries'");
  }
  if (!options.q_lens.empty()) {
    same(std::ssize(options.q_lens), "the number of q_lens", batch, "the batch");
    for (const Index n : options.q_lens) {
      require(n >= 0 && n <= q.tokens(), who, ": a q_len of ", n, " is outside of [0, ", q.tokens(),
              "]");
    }
  }
  if (!options.positions.empty()) {
    same(std::ssize(options.positions), "the number of positions", q.batch() * q.tokens(),
         "batch * q_len");
  }
  AttentionShape shape{.batch = batch,
                       .q_len = starts.empty() ? q.tokens() : 0,
                       .num_heads = q.heads(),
                       .num_kv_heads = source.num_kv_heads(),
                       .head_dim = q.dim(),
                       .value_dim = source.value_dim()};
  for (Index b = 0; b < batch; ++b) {
    const Index length = source.length(b), first = first_position(source, b);
    require(first >= q.tokens() - farthest_position && first <= farthest_position - length, who,
            ": the ", length, " keys of sequence ", b, " begin at position ", first,
            ", too far for positions within ", farthest_position);
    shape.kv_len = (std::max)(shape.kv_len, length);
  }
  for (std::size_t b = 1; b < starts.size(); ++b) {
    shape.q_len = (std::max)(shape.q_len, starts[b] - starts[b - 1]);
  }
  rules.check(shape);
  const Call<Query, Out, Source, RulesT> call{q, source, out, rules, options, shape};
  for (Index b = 0; b < batch; ++b) {
    const Index oldest = oldest_query(source, b);
    if (oldest == (std::numeric_limits<Index>::min)() || call.q_len(b) == 0) continue;
    const Index position = call.q_pos_range(b, 0, call.q_len(b)).first;
    require(position >= oldest, who, ": a query at position ", position, " of sequence ", b,
            " may see keys that the source no longer has: queries from position ", oldest,
            " on find all of theirs");
  }
  for (Index b = 0; b < batch; ++b) check_dropped_keys(who, call, b);
  return call;
}

}  // namespace detail
}  // namespace gqa
