// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// QueryRows: the query rows of one task, that is every query head of a group for some tokens, with
// their numbers packed in the order in which the tiles read them.
#pragma once

#include "gqa/kernel/row_list.hpp"
#include "gqa/layout/pack.hpp"

namespace gqa {

inline namespace GQA_ISA {

template <typename Storage>
class QueryRows : public RowList {
 public:
  using T = AccumulatorOf<Storage>;
  using Query = QueryFactor<Storage>;
  static constexpr Index p = packing<Storage>;
  /// Can tiles be transposed word by word, 32 bits being a row's p numbers of one step?
  static constexpr bool has_words = p * sizeof(Query) == sizeof(float);

  /// Memory for `rows` rows.
  struct Scratch {
    RowList::Scratch rows;
    Query* q;      // [tile][padded head_dim / p][rows of the tile][p], and what a pack goes beyond
    Query* given;  // [rows of a tile][row_stride()]: a tile's queries before they are transposed
    T* numbers;    // [head_dim], of a row of another type
    T* scale;      // [rows], of quantised queries
    T* offset;     // [rows], of quantised queries: minus what the keys' bias adds to a score

    Scratch(Carver& carver, Index count, const StripLayout<Storage>& layout)
        : rows(carver, count),
          q(carver.take<Query>(count * layout.padded_head_dim() + pack_words * p)),
          given(carver.take<Query>(
              has_words ? (std::min)(count, Index{max_tile_rows}) * row_stride(layout) : 0)),
          numbers(carver.take<T>(count > 0 ? layout.head_dim() : 0)),
          scale(carver.take<T>(is_quantized<Storage> ? count : 0)),
          offset(carver.take<T>(is_quantized<Storage> ? count : 0)) {}
  };

  /// The rows of `range`, whose numbers are in `q`.
  QueryRows(const detail::AttentionCall& call, const detail::AnyRows<const std::byte>& q,
            const StripLayout<Storage>& layout, const Scratch& scratch, const RowRange& range)
      : RowList(call, scratch.rows, range),
        scratch_(scratch),
        padded_head_dim_(layout.padded_head_dim()) {
    const auto given = [&](Index r) {
      const QueryRow& at = (*this)[r];
      return call.row(q, at.batch, at.q_index, at.head);
    };
    const Index bytes = layout.head_dim() * detail::element_bytes(q.dtype);
    constexpr Index ahead = 24;  // rows are far apart, as in put_tokens(), and need be there sooner
    for (Index r = 0; r < (std::min)(ahead, size()); ++r) prefetch_row(given(r), bytes);
    for (Index tile = 0; tile < tiles().count(); ++tile) {
      if constexpr (!has_words) {
        std::fill_n(scratch.q + tiles().begin(tile) * padded_head_dim_,
                    tiles().height(tile) * padded_head_dim_, Query(0));
      }
      for (Index r = tiles().begin(tile); r < tiles().begin(tile + 1); ++r) {
        if (r + ahead < size()) prefetch_row(given(r + ahead), bytes);
        take(detail::read_row(given(r), q.dtype, layout.head_dim(), scratch.numbers), layout, tile,
             r);
      }
      if constexpr (has_words) transpose_tile(layout, tile);
    }
  }

  /// A tile's queries, [padded head_dim / p][rows][p].
  const Query* packed(Index tile) const {
    return scratch_.q + tiles().begin(tile) * padded_head_dim_;
  }
  /// Of quantised queries: what their product with a key's integers becomes the score by,
  /// (product + offset) · scale · the key's scale.
  T scale(Index r) const { return scratch_.scale[r]; }
  T offset(Index r) const { return scratch_.offset[r]; }

 private:
  static constexpr Index pack_words = simd::Pack<float>::size;

  /// From one of the given rows to the next, in numbers: whole packs of words.
  static Index row_stride(const StripLayout<Storage>& layout) {
    return round_up(layout.padded_head_dim(), pack_words * p);
  }

  /// Takes row r, number by number, to where it is transposed from; or else to its place.
  void take(const T* q, const StripLayout<Storage>& layout, Index tile, Index r) const {
    const Index head_dim = layout.head_dim(), i = r - tiles().begin(tile);
    const Index step = has_words ? p : tiles().height(tile) * p;
    Query* to = has_words ? scratch_.given + i * row_stride(layout)
                          : scratch_.q + tiles().begin(tile) * padded_head_dim_ + i * p;
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
    const Index height = tiles().height(tile), words = padded_head_dim_ / p;
    float* to = reinterpret_cast<float*>(scratch_.q + tiles().begin(tile) * padded_head_dim_);
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
};

}  // namespace GQA_ISA
}  // namespace gqa
