// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A source that drops keys, as a ring does, under a mask that shows them: rows would silently miss
// what they are to see. The front doors refuse such calls. Masks of windows answer for all queries
// and all dropped keys at once; one that doesn't know is asked, block by block and then key by key.
#pragma once

#include <algorithm>
#include <tuple>

#include "gqa/core/kv_source.hpp"
#include "gqa/score/mask.hpp"

namespace gqa::detail {

/// The first key of [begin, end) that query i of sequence b sees; `end` if there is none.
template <typename Call>
GQA_TAG Index first_seen(const Call& call, Index b, Index i, Index begin, Index end) {
  const Index q_pos = call.q_pos(b, i), first = first_position(call.source, b);
  const Index heads = call.rules.differs_by_head() ? call.shape.num_heads : 1;
  for (Index k = begin; k < end; k += 64) {
    const Index k_end = (std::min)(end, k + 64);
    const Tile tile{.batch = b,
                    .q_begin = i,
                    .q_end = i + 1,
                    .q_pos_min = q_pos,
                    .q_pos_max = q_pos,
                    .k_begin = k,
                    .k_end = k_end,
                    .k_pos = first + k};
    if (call.rules.tile(tile, 0, call.shape.num_heads) == Coverage::skip) continue;
    for (Index j = k; j < k_end; ++j) {
      Where where{.batch = b, .q_index = i, .k_index = j, .q_pos = q_pos, .k_pos = first + j};
      for (; where.head < heads; ++where.head) {
        if (call.rules.visible(where)) return j;
      }
    }
  }
  return end;
}

/// Throws std::invalid_argument if a query of sequence b sees a key that the source has dropped.
template <typename Call>
GQA_TAG void check_dropped_keys(const char* who, const Call& call, Index b) {
  const Index length = call.source.length(b), q_len = call.q_len(b);
  if (q_len == 0) return;
  for (Index begin = next_dropped(call.source, b, 0); begin < length;) {
    const Index end = (std::min)(next_held(call.source, b, begin), length);
    Tile tile{.batch = b,
              .q_end = q_len,
              .k_begin = begin,
              .k_end = end,
              .k_pos = first_position(call.source, b) + begin};
    std::tie(tile.q_pos_min, tile.q_pos_max) = call.q_pos_range(b, 0, q_len);
    const bool skips = call.rules.tile(tile, 0, call.shape.num_heads) == Coverage::skip;
    for (Index i = 0; !skips && i < q_len; ++i) {
      const Index seen = first_seen(call, b, i, begin, end);
      require(seen == end, who, ": the mask shows the query at position ", call.q_pos(b, i),
              " of sequence ", b, " keys from ", seen, " on, but the source has dropped keys [",
              begin, ", ", end, ")");
    }
    begin = next_dropped(call.source, b, end);
  }
}

}  // namespace gqa::detail
