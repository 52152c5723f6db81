// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// RowList: which query rows a task carries, every query head of a group for some tokens, and what
// they see of keys. Nothing here depends on how keys and values are stored.
#pragma once

#include <algorithm>

#include "gqa/kernel/call.hpp"
#include "gqa/kernel/tile.hpp"

namespace gqa {

/// One query row: which token and head of which sequence it is.
struct QueryRow {
  Index batch = 0;
  Index q_index = 0;
  Index head = 0;
  Index q_pos = 0;
};

/// The queries of several sequences, one after the other, as if they were those of one.
struct JoinedQueries {
  const Index* sequences;  // [count]
  const Index* first;      // [count + 1], each one's first query; from any number on
  Index count;
};

/// Of rows that each see a stretch of keys: what any of them sees lies in `any`, and all of them
/// see all of `all`.
struct SeenRange {
  KeyRange any = {.begin = KeyRange::last, .end = KeyRange::first};
  KeyRange all = {};

  GQA_TAG void add(const KeyRange& row) {
    any = {(std::min)(any.begin, row.begin), (std::max)(any.end, row.end)};
    all = both(all, row);
  }
  GQA_TAG Coverage coverage(Index begin, Index end) const {
    return gqa::coverage(end <= any.begin || begin >= any.end,
                         begin >= all.begin && end <= all.end);
  }
};

/// Rows [begin, begin + count) of those that read a KV head: of one sequence, or of several whose
/// queries are joined; `batch` is then one of them, and all have the same keys at the same
/// positions. Row r is token r / group and head r % group of the group.
struct RowRange {
  Index batch = 0;
  Index kv_head = 0;
  Index begin = 0;
  Index count = 0;
  const JoinedQueries* joined = nullptr;
};

inline namespace GQA_ISA {

class RowList {
 public:
  /// Memory for `rows` rows.
  struct Scratch {
    QueryRow* row;    // [rows]
    KeyRange* range;  // [rows], see find_ranges()
    SeenRange* seen;  // [tiles], the same of each tile

    Scratch(Carver& carver, Index rows)
        : row(carver.take<QueryRow>(rows)),
          range(carver.take<KeyRange>(rows)),
          seen(carver.take<SeenRange>(ceil_div(rows, max_tile_rows))) {}
  };

  RowList(const detail::AttentionCall& call, const Scratch& scratch, const RowRange& range)
      : scratch_(scratch),
        batch_(range.batch),
        group_(call.shape.group()),
        first_head_(range.kv_head * group_),
        first_position_(call.source.first_position(range.batch)),
        size_(range.count),
        joined_(range.joined != nullptr),
        tiles_(range.count) {
    find_rows(call, range);
  }

  Index size() const { return size_; }
  /// A sequence that has the rows' keys.
  Index batch() const { return batch_; }
  const QueryRow& operator[](Index r) const { return scratch_.row[r]; }
  /// Row r and a key, for masks and score rules.
  Where where(Index r, Index key) const {
    const QueryRow& at = scratch_.row[r];
    return {.batch = at.batch,
            .head = at.head,
            .q_index = at.q_index,
            .k_index = key,
            .q_pos = at.q_pos,
            .k_pos = key + first_position_};
  }
  /// What rows [begin, end), end > begin, see of keys [k_begin, k_end).
  GQA_NOINLINE Coverage coverage(const detail::RulesView& rules, Index begin, Index end,
                                 Index k_begin, Index k_end) const {
    if (!joined_) return rules.tile(tile(begin, end, k_begin, k_end), first_head_, group_);
    Coverage seen = Coverage::partial;
    for (Index r = begin, next; r < end; r = next) {  // sequence by sequence: what they agree on
      next = r + 1;
      while (next < end && scratch_.row[next].batch == scratch_.row[r].batch) ++next;
      const Coverage own = rules.tile(tile(r, next, k_begin, k_end), first_head_, group_);
      if (r != begin && own != seen) return Coverage::partial;
      seen = own;
    }
    return seen;
  }
  /// For rules of which each query sees a stretch of keys: finds out which, and which each tile
  /// sees.
  GQA_NOINLINE void find_ranges(const detail::RulesView& rules) {
    if (ranges_found_) return;
    const bool differs_by_head = rules.differs_by_head();
    for (Index tile = 0; tile < tiles_.count(); ++tile) {
      SeenRange seen;
      for (Index r = tiles_.begin(tile); r < tiles_.begin(tile + 1); ++r) {
        const bool as_before = r > 0 && !differs_by_head &&
                               scratch_.row[r].q_index == scratch_.row[r - 1].q_index &&
                               scratch_.row[r].batch == scratch_.row[r - 1].batch;
        scratch_.range[r] = as_before ? scratch_.range[r - 1] : rules.range(where(r, 0));
        seen.add(scratch_.range[r]);
      }
      scratch_.seen[tile] = seen;
    }
    ranges_found_ = true;
  }
  /// What find_ranges() has found: the keys that row r sees of the 64 from `first` on, and what a
  /// tile sees of keys [k_begin, k_end).
  KeyRange range(Index r, Index first) const {
    const KeyRange& all = scratch_.range[r];
    return both(KeyRange{all.begin - first, all.end - first}, {0, 64});
  }
  Coverage tile_coverage(Index tile, Index k_begin, Index k_end) const {
    return scratch_.seen[tile].coverage(k_begin, k_end);
  }
  /// The rows, cut into tiles.
  const RowTiles& tiles() const { return tiles_; }

 private:
  /// Fills in which rows they are.
  GQA_NOINLINE void find_rows(const detail::AttentionCall& call, const RowRange& range) {
    const JoinedQueries* joined = range.joined;
    detail::Sequence s = call.sequence(batch_);
    Index before = 0, end = joined ? joined->first[0] : 0;  // of the sequence's queries, if joined
    for (Index r = 0; r < size_; ++r) {
      Index q_index = (range.begin + r) / group_;
      if (joined) {
        const Index *first = joined->first, query = first[0] + q_index;
        if (query >= end) {
          const Index* next = std::upper_bound(first, first + joined->count + 1, query);
          s = call.sequence(joined->sequences[next - first - 1]);
          before = *(next - 1) - first[0];
          end = *next;
        }
        q_index -= before;
      }
      scratch_.row[r] = {.batch = s.batch,
                         .q_index = q_index,
                         .head = first_head_ + (range.begin + r) % group_,
                         .q_pos = call.q_pos(s, q_index)};
      positions_rise_ &= r == 0 || scratch_.row[r].q_pos >= scratch_.row[r - 1].q_pos;
    }
  }
  /// Rows [begin, end) of one sequence and keys [k_begin, k_end), of the first row's head.
  Tile tile(Index begin, Index end, Index k_begin, Index k_end) const {
    const QueryRow* row = scratch_.row;
    Tile tile{.batch = row[begin].batch,
              .head = row[begin].head,
              .q_begin = row[begin].q_index,
              .q_end = row[end - 1].q_index + 1,
              .q_pos_min = row[begin].q_pos,
              .q_pos_max = row[end - 1].q_pos,
              .k_begin = k_begin,
              .k_end = k_end,
              .k_pos = k_begin + first_position_};
    for (Index r = begin; !positions_rise_ && r < end; ++r) {
      tile.q_pos_min = (std::min)(tile.q_pos_min, row[r].q_pos);
      tile.q_pos_max = (std::max)(tile.q_pos_max, row[r].q_pos);
    }
    return tile;
  }

  Scratch scratch_;
  Index batch_;
  Index group_;
  Index first_head_;
  Index first_position_;
  Index size_;
  bool joined_;
  bool ranges_found_ = false;
  bool positions_rise_ = true;
  RowTiles tiles_;
};

}  // namespace GQA_ISA
}  // namespace gqa
