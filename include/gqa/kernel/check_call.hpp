// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What is refused, once for all front doors: arguments that contradict one another, and a source
// that drops keys, as a ring does, under a mask that shows them: rows would silently miss what they
// are to see. Masks of windows answer for all queries and all dropped keys at once; one that
// doesn't know is asked, block by block and then key by key.
#pragma once

#include <algorithm>
#include <tuple>

#include "gqa/kernel/call.hpp"

namespace gqa::detail {
inline namespace GQA_ISA {

/// The first key of [begin, end) that query i of a sequence sees; `end` if there is none.
GQA_NOINLINE inline Index first_seen(const AttentionCall& call, const RulesView& rules,
                                     const Sequence& s, Index i, Index begin, Index end) {
  const Index heads = rules.differs_by_head() ? call.shape.num_heads : 1;
  for (Index k = begin; k < end; k += 64) {
    const Index k_end = (std::min)(end, k + 64);
    const Tile tile = tile_of(call, s, i, i + 1, k, k_end);
    if (rules.tile(tile, 0, call.shape.num_heads) == Coverage::skip) continue;
    for (Index j = k; j < k_end; ++j) {
      Where where{.batch = s.batch,
                  .q_index = i,
                  .k_index = j,
                  .q_pos = tile.q_pos_min,
                  .k_pos = s.first_position + j};
      for (; where.head < heads; ++where.head) {
        if (rules.visible(where)) return j;
      }
    }
  }
  return end;
}

/// Throws std::invalid_argument if a query of a sequence sees a key that the source has dropped.
GQA_NOINLINE inline void check_dropped_keys(const char* who, const AttentionCall& call,
                                            const RulesView& rules, const Sequence& s) {
  if (s.q_len == 0) return;
  for (Index begin = call.source.next_dropped(s.batch, 0); begin < s.length;) {
    const Index end = (std::min)(call.source.next_held(s.batch, begin), s.length);
    const Tile tile = tile_of(call, s, 0, s.q_len, begin, end);
    const bool skips = rules.tile(tile, 0, call.shape.num_heads) == Coverage::skip;
    for (Index i = 0; !skips && i < s.q_len; ++i) {
      const Index seen = first_seen(call, rules, s, i, begin, end);
      require(seen == end, who, ": the mask shows the query at position ", call.q_pos(s, i),
              " of sequence ", s.batch, " keys from ", seen,
              " on, but the source has dropped keys [", begin, ", ", end, ")");
    }
    begin = call.source.next_dropped(s.batch, end);
  }
}

/// Completes a call with its shape. Throws std::invalid_argument, prefixed with the caller's name,
/// for arguments that contradict; std::length_error for a head_dim beyond max_head_dim.
inline void check_call(const char* who, AttentionCall& call) {
  const TensorShape& q = call.q.shape;
  const AnySource& source = call.source;
  const std::span<const Index> starts = call.q_starts;
  const Index batch = starts.empty() ? q.batch : std::ssize(starts) - 1;
  if (!starts.empty()) {
    require(q.batch == 1, who, ": q_starts divide queries of batch 1, these have ", q.batch);
    require(call.q_lens.empty(), who, ": q_starts and q_lens are both given");
    require(starts.front() == 0 && starts.back() == q.tokens &&
                std::is_sorted(starts.begin(), starts.end()),
            who, ": q_starts go from ", starts.front(), " to ", starts.back(),
            ", and must rise from 0 to the number of tokens, ", q.tokens);
  }
  check_same(who, source.batch(), "the keys' batch", batch, "the queries'");
  check_same(who, source.head_dim(), "the keys' head_dim", q.dim, "the queries'");
  require(q.heads > 0 && source.num_kv_heads() > 0, who, ": num_heads ", q.heads,
          " and num_kv_heads ", source.num_kv_heads(), " must be positive");
  require(q.heads % source.num_kv_heads() == 0, who, ": num_kv_heads ", source.num_kv_heads(),
          " does not divide num_heads ", q.heads);
  require(q.dim > 0 && source.value_dim() > 0, who, ": head_dim ", q.dim, " and value_dim ",
          source.value_dim(), " must be positive");
  check_head_dim(who, source.dtype(), q.dim);
  const TensorShape expected{q.batch, q.tokens, q.heads, source.value_dim()};
  require(call.out.shape == expected, who, ": out is ", call.out.shape, ", expected ", expected);
  if (!call.q_lens.empty()) {
    check_same(who, std::ssize(call.q_lens), "the number of q_lens", batch, "the batch");
    for (const Index n : call.q_lens) {
      require(n >= 0 && n <= q.tokens, who, ": a q_len of ", n, " is outside of [0, ", q.tokens,
              "]");
    }
  }
  if (!call.positions.empty()) {
    check_same(who, std::ssize(call.positions), "the number of positions", q.batch * q.tokens,
               "batch * q_len");
  }
  AttentionShape& shape = call.shape;
  shape = {.batch = batch,
           .q_len = starts.empty() ? q.tokens : 0,
           .num_heads = q.heads,
           .num_kv_heads = source.num_kv_heads(),
           .head_dim = q.dim,
           .value_dim = source.value_dim()};
  for (Index b = 0; b < batch; ++b) {
    const Sequence s = call.sequence(b);
    require(s.first_position >= q.tokens - farthest_position &&
                s.first_position <= farthest_position - s.length,
            who, ": the ", s.length, " keys of sequence ", b, " begin at position ",
            s.first_position, ", too far for positions within ", farthest_position);
    shape.kv_len = (std::max)(shape.kv_len, s.length);
    if (!starts.empty()) shape.q_len = (std::max)(shape.q_len, s.q_len);
  }
  const RulesView rules = call.rules_view();
  rules.check(shape);
  for (Index b = 0; b < batch; ++b) {
    const Sequence s = call.sequence(b);
    const Index oldest = source.oldest_query(b);
    if (oldest != (std::numeric_limits<Index>::min)() && s.q_len > 0) {
      const Index position = call.q_pos_range(s, 0, s.q_len).first;
      require(position >= oldest, who, ": a query at position ", position, " of sequence ", b,
              " may see keys that the source no longer has: queries from position ", oldest,
              " on find all of theirs");
    }
  }
  for (Index b = 0; b < batch; ++b) check_dropped_keys(who, call, rules, call.sequence(b));
}

}  // namespace GQA_ISA
}  // namespace gqa::detail
