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

/// One query row: which token and head it is.
struct QueryRow {
  Index q_index = 0;
  Index head = 0;
  Index q_pos = 0;
};

inline namespace GQA_ISA {

template <typename Storage>
class QueryRows {
 public:
  using T = AccumulatorOf<Storage>;
  using Query = QueryFactor<Storage>;

  /// Memory for `rows` rows.
  struct Scratch {
    QueryRow* row;  // [rows]
    Query* q;       // [tile][padded head_dim / p][rows of the tile][p]
    T* scale;       // [rows], of quantised queries
    T* offset;      // [rows], of quantised queries: minus what the keys' bias adds to a score

    Scratch(Carver& carver, Index rows, const StripLayout<Storage>& layout)
        : row(carver.take<QueryRow>(rows)),
          q(carver.take<Query>(rows * layout.padded_head_dim())),
          scale(carver.take<T>(is_quantized<Storage> ? rows : 0)),
          offset(carver.take<T>(is_quantized<Storage> ? rows : 0)) {}
  };

  /// Rows [row_begin, row_begin + rows) of those of a sequence that read `kv_head`; row r is token
  /// r / group and head r % group of the group.
  template <typename Call>
  QueryRows(const Call& call, const StripLayout<Storage>& layout, const Scratch& scratch,
            Index batch, Index kv_head, Index row_begin, Index rows)
      : scratch_(scratch),
        padded_head_dim_(layout.padded_head_dim()),
        batch_(batch),
        group_(call.shape.group()),
        first_head_(kv_head * group_),
        first_position_(first_position(call.source, batch)),
        size_(rows),
        tiles_(rows) {
    for (Index r = 0; r < rows; ++r) {
      const Index q_index = (row_begin + r) / group_;
      scratch.row[r] = {.q_index = q_index,
                        .head = first_head_ + (row_begin + r) % group_,
                        .q_pos = call.q_pos(batch, q_index)};
    }
    const auto given = [&](Index r) {
      return call.q_row(batch, scratch.row[r].q_index, scratch.row[r].head);
    };
    constexpr Index ahead = 4;  // rows are far apart: as in put_tokens()
    for (Index tile = 0; tile < tiles_.count(); ++tile) {
      std::fill_n(scratch.q + tiles_.begin(tile) * padded_head_dim_,
                  tiles_.height(tile) * padded_head_dim_, Query(0));
      for (Index r = tiles_.begin(tile); r < tiles_.begin(tile + 1); ++r) {
        if (r + ahead < rows) prefetch_row(given(r + ahead), layout.head_dim());
        pack(given(r), layout.head_dim(), tile, r);
      }
    }
  }

  Index size() const { return size_; }
  Index batch() const { return batch_; }
  /// Query heads first_head() … first_head() + group() - 1 read the rows' KV head.
  Index first_head() const { return first_head_; }
  Index group() const { return group_; }
  const QueryRow& operator[](Index r) const { return scratch_.row[r]; }
  /// Row r and a key, for masks and score rules.
  Where where(Index r, Index key) const {
    const QueryRow& at = scratch_.row[r];
    return {.batch = batch_,
            .head = at.head,
            .q_index = at.q_index,
            .k_index = key,
            .q_pos = at.q_pos,
            .k_pos = key + first_position_};
  }
  /// Rows [begin, end) and keys [k_begin, k_end), of the first row's head.
  Tile tile(Index begin, Index end, Index k_begin, Index k_end) const {
    const QueryRow* row = scratch_.row;
    Tile tile{.batch = batch_,
              .head = row[begin].head,
              .q_begin = row[begin].q_index,
              .q_end = row[end - 1].q_index + 1,
              .q_pos_min = row[begin].q_pos,
              .q_pos_max = row[begin].q_pos,
              .k_begin = k_begin,
              .k_end = k_end,
              .k_pos = k_begin + first_position_};
    for (Index r = begin + 1; r < end; ++r) {
      tile.q_pos_min = std::min(tile.q_pos_min, row[r].q_pos);
      tile.q_pos_max = std::max(tile.q_pos_max, row[r].q_pos);
    }
    return tile;
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
  template <typename Given>
  void pack(const Given* q, Index head_dim, Index tile, Index r) const {
    constexpr Index p = packing<Storage>;
    const Index height = tiles_.height(tile), i = r - tiles_.begin(tile);
    Query* to = scratch_.q + tiles_.begin(tile) * padded_head_dim_ + i * p;
    const auto put = [&](Index c, Query x) { to[c / p * height * p + c % p] = x; };
    if constexpr (is_quantized<Storage>) {
      Index sum = 0;
      scratch_.scale[r] = int8_scale(q, head_dim);
      quantize(q, head_dim, scratch_.scale[r], [&](Index c, std::int8_t x) {
        put(c, static_cast<Query>(x));
        sum += x;
      });
      scratch_.offset[r] = static_cast<T>(-sum * simd::Dot<Storage, Product::scores>::key_bias);
    } else {
      for (Index c = 0; c < head_dim; ++c) put(c, convert<Query>(q[c]));
    }
  }

  Scratch scratch_;
  Index padded_head_dim_;
  Index batch_;
  Index group_;
  Index first_head_;
  Index first_position_;
  Index size_;
  RowTiles tiles_;
};

}  // namespace GQA_ISA
}  // namespace gqa
