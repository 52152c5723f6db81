// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// QueryRows: the query rows of one task, that is every query head of a group for some tokens, with
// their numbers packed in the order in which the tiles read them.
#pragma once

#include "gqa/kernel/call.hpp"
#include "gqa/kernel/tile.hpp"
#include "gqa/layout/pack.hpp"

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

template <typename Storage>
class QueryRows {
 public:
  using T = AccumulatorOf<Storage>;
  using Query = QueryFactor<Storage>;
  static constexpr Index p = packing<Storage>;
  /// Can tiles be transposed word by word, 32 bits being a row's p numbers of one step?
  static constexpr bool has_words = p * sizeof(Query) == sizeof(float);

  /// Memory for `rows` rows.
  struct Scratch {
    QueryRow* row;  // [rows]
    Query* q;       // [tile][padded head_dim / p][rows of the tile][p], and what a pack goes beyond
    Query* given;   // [rows of a tile][row_stride()]: a tile's queries before they are transposed
    T* numbers;     // [head_dim], of a row of another type
    KeyRange* range;  // [rows], see find_ranges()
    SeenRange* seen;  // [tiles], the same of each tile
    T* scale;         // [rows], of quantised queries
    T* offset;        // [rows], of quantised queries: minus what the keys' bias adds to a score

    Scratch(Carver& carver, Index rows, const StripLayout<Storage>& layout)
        : row(carver.take<QueryRow>(rows)),
          q(carver.take<Query>(rows * layout.padded_head_dim() + pack_words * p)),
          given(carver.take<Query>(
              has_words ? (std::min)(rows, Index{max_tile_rows}) * row_stride(layout) : 0)),
          numbers(carver.take<T>(rows > 0 ? layout.head_dim() : 0)),
          range(carver.take<KeyRange>(rows)),
          seen(carver.take<SeenRange>(ceil_div(rows, max_tile_rows))),
          scale(carver.take<T>(is_quantized<Storage> ? rows : 0)),
          offset(carver.take<T>(is_quantized<Storage> ? rows : 0)) {}
  };

  /// The rows of `range`, whose numbers are in `q`.
  QueryRows(const detail::AttentionCall& call, const detail::AnyRows<const std::byte>& q,
            const StripLayout<Storage>& layout, const Scratch& scratch, const RowRange& range)
      : scratch_(scratch),
        padded_head_dim_(layout.padded_head_dim()),
        batch_(range.batch),
        group_(call.shape.group()),
        first_head_(range.kv_head * group_),
        first_position_(call.source.first_position(range.batch)),
        size_(range.count),
        joined_(range.joined != nullptr),
        tiles_(range.count) {
    find_rows(call, range);
    const auto given = [&](Index r) {
      const QueryRow& at = scratch.row[r];
      return call.row(q, at.batch, at.q_index, at.head);
    };
    const Index bytes = layout.head_dim() * detail::element_bytes(q.dtype);
    constexpr Index ahead = 24;  // rows are far apart, as in put_tokens(), and need be there sooner
    for (Index r = 0; r < (std::min)(ahead, size_); ++r) prefetch_row(given(r), bytes);
    for (Index tile = 0; tile < tiles_.count(); ++tile) {
      if constexpr (!has_words) {
        std::fill_n(scratch.q + tiles_.begin(tile) * padded_head_dim_,
                    tiles_.height(tile) * padded_head_dim_, Query(0));
      }
      for (Index r = tiles_.begin(tile); r < tiles_.begin(tile + 1); ++r) {
        if (r + ahead < size_) prefetch_row(given(r + ahead), bytes);
        take(detail::read_row(given(r), q.dtype, layout.head_dim(), scratch.numbers), layout, tile,
             r);
      }
      if constexpr (has_words) transpose_tile(layout, tile);
    }
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
  void find_ranges(const detail::RulesView& rules) {
    if (ranges_found_) return;
    for (Index tile = 0; tile < tiles_.count(); ++tile) {
      SeenRange seen;
      for (Index r = tiles_.begin(tile); r < tiles_.begin(tile + 1); ++r) {
        const bool as_before = r > 0 && !rules.differs_by_head() &&
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
  /// A tile's queries, [padded head_dim / p][rows][p].
  const Query* packed(Index tile) const {
    return scratch_.q + tiles_.begin(tile) * padded_head_dim_;
  }
  /// Of quantised queries: what their product with a key's integers becomes the score by,
  /// (product + offset) · scale · the key's scale.
  T scale(Index r) const { return scratch_.scale[r]; }
  T offset(Index r) const { return scratch_.offset[r]; }

 private:
  /// Fills in which rows they are.
  void find_rows(const detail::AttentionCall& call, const RowRange& range) {
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

  static constexpr Index pack_words = simd::Pack<float>::size;

  /// From one of the given rows to the next, in numbers: whole packs of words.
  static Index row_stride(const StripLayout<Storage>& layout) {
    return round_up(layout.padded_head_dim(), pack_words * p);
  }

  /// Takes row r, number by number, to where it is transposed from; or else to its place.
  void take(const T* q, const StripLayout<Storage>& layout, Index tile, Index r) const {
    const Index head_dim = layout.head_dim(), i = r - tiles_.begin(tile);
    const Index step = has_words ? p : tiles_.height(tile) * p;
    Query* to = has_words ? scratch_.given + i * row_stride(layout)
                          : scratch_.q + tiles_.begin(tile) * padded_head_dim_ + i * p;
    // By value: what is stored might otherwise be `to` itself, for all that a compiler knows.
    const auto put = [=](Index c, Query x) {
      if constexpr (has_words) {
        to[c] = x;
      } else {
        to[c / p * step + c % p] = x;
      }
    };
    if constexpr (is_quantized<Storage>) {
      constexpr int key_bias = simd::Dot<Storage, Product::scores>::key_bias;
      const float scale = int8_scale(q, head_dim);
      std::int32_t sum = 0;
      quantize(q, head_dim, scale, [=, &sum](Index c, std::int8_t x) {
        put(c, Query(x));
        sum += x;
      });
      scratch_.scale[r] = scale;
      scratch_.offset[r] = static_cast<T>(-Index{sum} * key_bias);
    } else {
      for (Index c = 0; c < head_dim; ++c) put(c, convert<Query>(q[c]));
    }
    if constexpr (has_words) std::fill(to + head_dim, to + padded_head_dim_, Query(0));
  }

  /// Transposes the given rows of a tile, as many as a pack has lanes at a time. What a pack stores
  /// beyond the tile's rows is overwritten by what comes later: the next words, the first rows, the
  /// next tile.
  void transpose_tile(const StripLayout<Storage>& layout, Index tile) const {
    using Words = simd::Pack<float>;
    const Index height = tiles_.height(tile), words = padded_head_dim_ / p;
    float* to = reinterpret_cast<float*>(scratch_.q + tiles_.begin(tile) * padded_head_dim_);
    for (Index first = (height - 1) / pack_words * pack_words; first >= 0; first -= pack_words) {
      for (Index begin = 0; begin < words; begin += pack_words) {
        Words rows[pack_words];
        GQA_UNROLL
        for (int i = 0; i < static_cast<int>(pack_words); ++i) {
          const Query* from = scratch_.given + (first + i) * row_stride(layout) + begin * p;
          rows[i] = first + i < height ? Words::load(reinterpret_cast<const float*>(from))
                                       : Words::zero();
        }
        transpose(rows);
        const Index count = (std::min)(pack_words, words - begin);
        GQA_UNROLL
        for (int i = 0; i < static_cast<int>(pack_words); ++i) {
          if (i < count) rows[i].store(to + (begin + i) * height + first);
        }
      }
    }
  }

  Scratch scratch_;
  Index padded_head_dim_;
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
