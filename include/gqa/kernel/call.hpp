// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// One call of attend() or its like, as plain data: where queries, keys, values and outputs are, of
// which types, under which rules, and who runs it. The front doors make one of their arguments;
// check_call() checks these against one another, and everything after that relies on it.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include "gqa/core/any_rows.hpp"
#include "gqa/core/any_source.hpp"
#include "gqa/core/workspace.hpp"
#include "gqa/layout/quantize.hpp"
#include "gqa/parallel/tasks.hpp"
#include "gqa/score/rule_set.hpp"

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

/// One sequence of a call.
struct Sequence {
  Index batch = 0;
  Index q_len = 0;
  Index q_start = 0;         ///< where its queries begin in packed ones
  Index length = 0;          ///< of its keys
  Index first_position = 0;  ///< of key 0
};

/// A call. `lse` is AccumulatorOf the queries, [batch, num_heads, q_len], or null.
struct AttentionCall {
  AnyRows<const std::byte> q;
  AnySource source;
  AnyRows<std::byte> out;
  std::span<const AnyPart> rules;
  AnyExecutor executor;
  void* lse = nullptr;
  std::span<const Index> q_lens = {}, q_starts = {}, positions = {};
  Workspace* workspace = nullptr;
  std::optional<double> scale = {};  ///< unless the rules bring one
  AttentionShape shape = {};         ///< of check_call()

  GQA_TAG RulesView rules_view() const { return RulesView(rules, scale); }

  GQA_TAG bool is_packed() const { return !q_starts.empty(); }
  /// Where sequence b's tokens begin in packed queries.
  GQA_TAG Index start(Index b) const { return q_starts[static_cast<std::size_t>(b)]; }
  GQA_TAG Index q_len(Index b) const {
    if (is_packed()) return start(b + 1) - start(b);
    return q_lens.empty() ? q.shape.tokens : q_lens[static_cast<std::size_t>(b)];
  }
  GQA_TAG Sequence sequence(Index b) const {
    return {.batch = b,
            .q_len = q_len(b),
            .q_start = is_packed() ? start(b) : 0,
            .length = source.length(b),
            .first_position = source.first_position(b)};
  }
  GQA_TAG Index q_pos(const Sequence& s, Index i) const {
    if (positions.empty()) return s.first_position + s.length - s.q_len + i;
    const Index at = is_packed() ? s.q_start + i : s.batch * q.shape.tokens + i;
    return std::clamp(positions[static_cast<std::size_t>(at)], -farthest_position,
                      farthest_position);
  }
  /// The smallest and the largest position of queries [begin, end) of a sequence, end > begin.
  GQA_TAG std::pair<Index, Index> q_pos_range(const Sequence& s, Index begin, Index end) const {
    std::pair range(q_pos(s, begin), q_pos(s, begin));
    if (positions.empty()) return {range.first, q_pos(s, end - 1)};
    for (Index i = begin + 1; i < end; ++i) {
      range.first = (std::min)(range.first, q_pos(s, i));
      range.second = (std::max)(range.second, q_pos(s, i));
    }
    return range;
  }
  /// Query rows that read one KV head.
  GQA_TAG Index rows(Index b) const { return q_len(b) * shape.group(); }

  /// The row of query i of sequence b, in queries or outputs.
  template <typename Byte>
  GQA_TAG Byte* row(const AnyRows<Byte>& x, Index b, Index i, Index head) const {
    return is_packed() ? x.row(0, start(b) + i, head) : x.row(b, i, head);
  }
  /// The same in lse, of the queries' AccumulatorOf.
  template <typename T>
  GQA_TAG T& lse_of(Index b, Index head, Index i) const {
    const Index first = is_packed() ? head * q.shape.tokens + start(b)
                                    : (b * shape.num_heads + head) * q.shape.tokens;
    return static_cast<T*>(lse)[first + i];
  }
  /// The scratch that the caller gave, or else `own`.
  GQA_TAG Workspace& scratch(Workspace& own) const { return workspace ? *workspace : own; }
};

inline namespace GQA_ISA {

/// The tile of queries [q_begin, q_end) of a sequence, q_end > q_begin, and keys [k_begin, k_end).
GQA_NOINLINE inline Tile tile_of(const AttentionCall& call, const Sequence& s, Index q_begin,
                                 Index q_end, Index k_begin, Index k_end) {
  const auto [q_pos_min, q_pos_max] = call.q_pos_range(s, q_begin, q_end);
  return {.batch = s.batch,
          .q_begin = q_begin,
          .q_end = q_end,
          .q_pos_min = q_pos_min,
          .q_pos_max = q_pos_max,
          .k_begin = k_begin,
          .k_end = k_end,
          .k_pos = k_begin + s.first_position};
}

}  // namespace GQA_ISA

GQA_NOINLINE GQA_TAG inline void check_same(const char* who, Index a, const char* a_name, Index b,
                                            const char* b_name) {
  require(a == b, who, ": ", a_name, " is ", a, ", but ", b_name, " is ", b);
}
GQA_TAG inline void check_lse(const char* who, const TensorShape& lse, const TensorShape& q) {
  check_same(who, lse.batch, "lse's batch", q.batch, "the queries'");
  check_same(who, lse.heads, "lse's num_heads", q.heads, "the queries'");
  check_same(who, lse.tokens, "lse's q_len", q.tokens, "the queries'");
}

/// The call that a front door was given. Throws std::invalid_argument, prefixed with the caller's
/// name, for sizes of lse that contradict q's, and for an executor of no workers.
template <Scalar Query, KvSource Source, Scalar Out>
GQA_TAG AttentionCall make_call(const char* who, const TensorView<const Query>& q,
                                const Source& source, const TensorView<Out>& out,
                                std::span<const AnyPart> rules,
                                const AttendOptions<AccumulatorOf<Query>>& options,
                                const AnyExecutor& executor) {
  static_assert(
      std::same_as<AccumulatorOf<Query>, AccumulatorOf<typename Source::Storage>> &&
          std::same_as<AccumulatorOf<Query>, AccumulatorOf<Out>>,
      "gqa: queries, keys and outputs are all double, or none is: sums are kept in double "
      "for double and in float for float, bfloat16 and half");
  if (options.lse) {
    check_lse(who, {options.lse.batch(), options.lse.q_len(), options.lse.num_heads(), 0},
              q.shape());
  }
  return {.q = AnyRows<const std::byte>(q),
          .source = source,
          .out = AnyRows<std::byte>(out),
          .rules = rules,
          .executor = executor,
          .lse = options.lse.data(),
          .q_lens = options.q_lens,
          .q_starts = options.q_starts,
          .positions = options.positions,
          .workspace = options.workspace};
}

}  // namespace detail
}  // namespace gqa
