// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// RowBlock: the query rows that one task carries past a KV head's keys. Its step() is attention: 64
// keys against all rows,
//
//   S = Q Kᵀ,   P = 2^(S - max),   O += P V,
//
// the keys and values read once for all rows, that is for every query head of the group and every
// query token of the block. All decisions (maximum, rescaling, visibility) are made per row, and
// what is hidden adds exact zeros, so a row's bits don't depend on its company.
#pragma once

#include "gqa/kernel/call.hpp"
#include "gqa/kernel/tile.hpp"
#include "gqa/ops/softmax_state.hpp"

namespace gqa {

/// Rows of one block: 8 tiles of 12 (or 16 of 6), so that queries, scores and outputs, 48 + 24 + 48
/// KiB for head_dim 128, stay in L2 beside a block of keys and values, 64 KiB.
inline constexpr Index max_block_rows = 96;

/// One query row: which token and head it is.
struct QueryRow {
  Index q_index = 0;
  Index head = 0;
  Index q_pos = 0;
};

inline namespace GQA_ISA {

template <typename Call>
class RowBlock {
 public:
  using T = typename Call::T;
  using Storage = typename Call::Storage;
  using Pack = simd::Pack<T>;

  /// Scratch of one worker, for blocks of up to `rows` rows.
  struct Scratch {
    T* q;                   // [tile][padded head_dim][rows of the tile]
    T* scores;              // [rows][64]: S, then P
    T* sums;                // [rows][lanes of a pack]
    QueryRow* row;          // [rows]
    Storage* clean_values;  // one block, see add_values_row_by_row()

    Scratch(Carver& carver, Index rows, const StripLayout<Storage>& layout)
        : q(carver.take<T>(rows * layout.padded_head_dim())),
          scores(carver.take<T>(rows * block_keys)),
          sums(carver.take<T>(rows * Pack::size)),
          row(carver.take<QueryRow>(rows)),
          clean_values(carver.take<Storage>(layout.block_elements())) {}
  };

  /// Rows [row_begin, row_begin + rows) of sequence `batch` that read `kv_head`; row r is token
  /// r / group and head r % group of the group. `states` and `out` [rows][padded value_dim] receive
  /// the result of reset() and step().
  RowBlock(const Call& call, const StripLayout<Storage>& layout, const Scratch& scratch,
           Index batch, Index kv_head, Index row_begin, Index rows)
      : call_(call),
        layout_(layout),
        scratch_(scratch),
        batch_(batch),
        kv_head_(kv_head),
        rows_(rows),
        tiles_(rows),
        scale_(static_cast<T>(call.rules.scale(call.shape.head_dim) * (has_scores ? 1.0 : log2e))) {
    const Index group = call.shape.group();
    for (Index r = 0; r < rows; ++r) {
      const Index q_index = (row_begin + r) / group;
      scratch.row[r] = {.q_index = q_index,
                        .head = kv_head * group + (row_begin + r) % group,
                        .q_pos = call.q_pos(batch, q_index)};
    }
    pack_queries();
  }

  Index rows() const { return rows_; }
  Index batch() const { return batch_; }
  Index kv_head() const { return kv_head_; }
  const QueryRow& row(Index r) const { return scratch_.row[r]; }

  /// Starts a new range of keys, whose result goes to `states` and `out`.
  void reset(SoftmaxState<T>* states, T* out) {
    states_ = states;
    out_ = out;
    std::fill_n(states, rows_, SoftmaxState<T>{});
    std::fill_n(out, rows_ * layout_.padded_value_dim(), T(0));
    std::fill_n(scratch_.sums, rows_ * Pack::size, T(0));
  }

  /// Does no row see any key of [k_begin, k_end)?
  bool skips(Index k_begin, Index k_end) const {
    return coverage_of(0, rows_, k_begin, k_end) == Coverage::skip;
  }

  /// One block of keys and values: `keys` of them, from index `first` on. `later` is a block that
  /// will be read soon, or null: it is brought to L2 while this one is multiplied, line by line,
  /// which is what makes a decode step take the larger of memory time and compute time rather than
  /// their sum.
  void step(const Storage* block, Index first, Index keys, const Storage* later = nullptr) {
    const std::uintptr_t ahead =
        later ? reinterpret_cast<std::uintptr_t>(later) - reinterpret_cast<std::uintptr_t>(block)
              : 0;
    Coverage seen[max_block_rows / 6][2];
    if (!look(first, keys, seen)) return;

    // S = Q Kᵀ. Strips outside, so that a strip of keys stays in L1 for all tiles.
    for_each_strip(seen, [&](Index tile, int begin, int end) {
      multiply_keys(tiles_.height(tile), layout_, queries(tile), block, begin, end,
                    scores(tiles_.begin(tile)), tile == 0 ? ahead : 0);
    });

    // P = 2^(S - max), O and the sums rescaled where the maximum grew.
    for (Index tile = 0; tile < tiles_.count; ++tile) {
      for (Index r = tiles_.begin(tile); r < tiles_.begin(tile + 1); ++r) {
        softmax(r, first, keys, seen[tile]);
      }
    }

    // O += P V. Strips outside again, now of channels.
    const Index dim = layout_.padded_value_dim();
    const Index width = tiles_.count == 1 ? dim : strip_width;
    const bool poisoned = hides_non_finite_values(block, seen);
    for (Index channel = 0; channel < dim; channel += width) {
      for (Index tile = 0; tile < tiles_.count; ++tile) {
        const auto [begin, end] = visible_strips(seen[tile]);
        if (begin == end || (poisoned && is_partial(seen[tile]))) continue;
        const Index r = tiles_.begin(tile);
        multiply_values(tiles_.height(tile), layout_, scores(r), block, begin * strip_width,
                        end * strip_width, channel, std::min(channel + width, dim), out_row(r),
                        tile == 0 ? ahead : 0);
      }
    }
    if (poisoned) add_values_row_by_row(block, first, keys, seen);
  }

  /// Completes the states: adds up the lanes of the sums.
  void finish() {
    for (Index r = 0; r < rows_; ++r) states_[r].sum = reduce_add(Pack::load(sums(r)));
  }

 private:
  static constexpr bool has_scores = Call::Rules::has_scores;
  static constexpr bool per_head = Call::Rules::per_head;
  using Strips = Coverage[2];

  T* queries(Index tile) const {
    return scratch_.q + tiles_.begin(tile) * layout_.padded_head_dim();
  }
  T* scores(Index r) const { return scratch_.scores + r * block_keys; }
  T* sums(Index r) const { return scratch_.sums + r * Pack::size; }
  T* out_row(Index r) const { return out_ + r * layout_.padded_value_dim(); }

  void pack_queries() const {
    for (Index tile = 0; tile < tiles_.count; ++tile) {
      const Index height = tiles_.height(tile);
      T* panel = queries(tile);
      for (Index i = 0; i < height; ++i) {
        const QueryRow& at = row(tiles_.begin(tile) + i);
        const auto* q = call_.q.row(batch_, at.q_index, at.head);
        for (Index c = 0; c < layout_.head_dim(); ++c) panel[c * height + i] = convert<T>(q[c]);
        for (Index c = layout_.head_dim(); c < layout_.padded_head_dim(); ++c) {
          panel[c * height + i] = T(0);
        }
      }
    }
  }

  /// What rows [begin, end) see of keys [k_begin, k_end).
  Coverage coverage_of(Index begin, Index end, Index k_begin, Index k_end) const {
    const QueryRow& first = row(begin);
    Tile tile{.batch = batch_,
              .head = first.head,
              .q_begin = first.q_index,
              .q_end = row(end - 1).q_index + 1,
              .q_pos_min = first.q_pos,
              .q_pos_max = first.q_pos,
              .k_begin = k_begin,
              .k_end = k_end,
              .k_pos = k_begin + first_position(call_.source, batch_)};
    for (Index r = begin + 1; r < end; ++r) {
      tile.q_pos_min = std::min(tile.q_pos_min, row(r).q_pos);
      tile.q_pos_max = std::max(tile.q_pos_max, row(r).q_pos);
    }
    Coverage seen = call_.rules.tile(tile);
    if constexpr (per_head) {
      const Index group = call_.shape.group();
      for (Index g = 0; g < group && seen != Coverage::partial; ++g) {
        tile.head = kv_head_ * group + g;
        if (call_.rules.tile(tile) != seen) seen = Coverage::partial;
      }
    }
    return seen;
  }

  /// What each tile sees of the block's two strips of 32 keys; false if nothing.
  bool look(Index first, Index keys, Strips* seen) const {
    const Coverage block = coverage_of(0, rows_, first, first + keys);
    if (block == Coverage::skip) return false;
    for (Index tile = 0; tile < tiles_.count; ++tile) {
      for (int s = 0; s < 2; ++s) {
        const Index begin = s * strip_width, end = std::min(keys, begin + strip_width);
        if (begin >= end) {
          seen[tile][s] = Coverage::skip;
        } else if (block == Coverage::full) {
          seen[tile][s] = Coverage::full;
        } else {
          seen[tile][s] =
              coverage_of(tiles_.begin(tile), tiles_.begin(tile + 1), first + begin, first + end);
        }
      }
    }
    return true;
  }

  static std::pair<int, int> visible_strips(const Strips& seen) {
    const int begin = seen[0] == Coverage::skip ? 1 : 0;
    const int end = seen[1] == Coverage::skip ? 1 : 2;
    return {begin, std::max(begin, end)};
  }
  static bool is_partial(const Strips& seen) {
    return seen[0] == Coverage::partial || seen[1] == Coverage::partial;
  }

  /// Calls fn(tile, strip begin, strip end) for what is visible: both strips at once for a single
  /// tile, one strip after the other for several.
  template <typename F>
  void for_each_strip(const Strips* seen, F fn) const {
    if (tiles_.count == 1) {
      const auto [begin, end] = visible_strips(seen[0]);
      return fn(Index{0}, begin, end);
    }
    for (int s = 0; s < 2; ++s) {
      for (Index tile = 0; tile < tiles_.count; ++tile) {
        if (seen[tile][s] != Coverage::skip) fn(tile, s, s + 1);
      }
    }
  }

  Where where(Index r, Index key) const {
    const QueryRow& at = row(r);
    return {.batch = batch_,
            .head = at.head,
            .q_index = at.q_index,
            .k_index = key,
            .q_pos = at.q_pos,
            .k_pos = key + first_position(call_.source, batch_)};
  }

  /// Turns row r of S into P, in the visible strips.
  void softmax(Index r, Index first, Index keys, const Strips& seen) {
    const auto [strip_begin, strip_end] = visible_strips(seen);
    const Index begin = strip_begin * strip_width, end = strip_end * strip_width;
    if (begin == end) return;
    T* s = scores(r);

    // Scaled scores, times log2(e); hidden ones -inf. With score rules log2(e) comes behind them,
    // in a loop of its own: in one, a compiler might contract s · scale + bias in one place and not
    // another.
    for (Index j = begin; j < end; j += Pack::size) {
      (Pack::load(s + j) * Pack::broadcast(scale_)).store(s + j);
    }
    if constexpr (has_scores) {
      for (Index j = begin; j < std::min(end, keys); ++j) {
        s[j] = call_.rules.score(s[j], where(r, first + j)) * T(log2e);
      }
    }
    for (int strip = strip_begin; strip < strip_end; ++strip) {
      if (seen[strip] != Coverage::partial) continue;
      for (Index j = strip * strip_width; j < (strip + 1) * strip_width; ++j) {
        s[j] = call_.rules.visible(where(r, first + std::min(j, keys - 1)))
                   ? s[j]
                   : SoftmaxState<T>::empty_max;
      }
    }
    for (Index j = keys; j < end; ++j) s[j] = SoftmaxState<T>::empty_max;

    // Most blocks don't raise the maximum, and then need no horizontal one.
    Pack highest = Pack::load(s + begin);
    for (Index j = begin + Pack::size; j < end; j += Pack::size) {
      highest = max(highest, Pack::load(s + j));
    }
    SoftmaxState<T>& state = states_[r];
    if (any_greater(highest, Pack::broadcast(state.max))) {
      const T raised = reduce_max(highest);
      const Pack factor = Pack::broadcast(simd::exp2(state.max - safe_max(raised)));
      state.max = raised;
      T* out = out_row(r);
      for (Index c = 0; c < layout_.padded_value_dim(); c += Pack::size) {
        (factor * Pack::load(out + c)).store(out + c);
      }
      (factor * Pack::load(sums(r))).store(sums(r));
    }

    const Pack reference = Pack::broadcast(safe_max(state.max));
    Pack sum = Pack::load(sums(r));
    for (Index j = begin; j < end; j += Pack::size) {
      const Pack weight = exp2(Pack::load(s + j) - reference);
      sum = sum + weight;
      weight.store(s + j);
    }
    sum.store(sums(r));
  }

  /// Is there a NaN or infinity among the values of keys that some row doesn't see? Its weight is
  /// 0, and 0 · NaN is NaN. (Behind the last key, values are zero.)
  bool hides_non_finite_values(const Storage* block, const Strips* seen) const {
    for (int s = 0; s < 2; ++s) {
      for (Index tile = 0; tile < tiles_.count; ++tile) {
        if (seen[tile][s] != Coverage::partial) continue;
        if (!finite_values(block, s * strip_width)) return true;
        break;
      }
    }
    return false;
  }

  /// Are all values of keys [begin, begin + 32) finite?
  bool finite_values(const Storage* block, Index begin) const {
    Pack sum = Pack::zero();  // of x · 0, which is NaN for infinities, too
    for (Index c = 0; c < layout_.padded_value_dim(); c += strip_width) {
      const Index elements = strip_width * layout_.value_strip_width(c / strip_width);
      const Storage* v = block + layout_.value_offset(begin, c);
      for (Index i = 0; i < elements; i += Pack::size * packing<Storage>) {
        Pack x[packing<Storage>];
        simd::widen(v + i, x);
        for (const Pack& lanes : x) sum = fma(lanes, Pack::zero(), sum);
      }
    }
    return reduce_add(sum) == T(0);
  }

  /// O += P V for the rows of partial tiles with what a row doesn't see taken as zero: the same
  /// sums in the same order, without 0 · NaN. Slow, and rare.
  void add_values_row_by_row(const Storage* block, Index first, Index keys, const Strips* seen) {
    const Index dim = layout_.padded_value_dim();
    Storage* clean = scratch_.clean_values;
    for (Index tile = 0; tile < tiles_.count; ++tile) {
      const auto [begin, end] = visible_strips(seen[tile]);
      if (begin == end || !is_partial(seen[tile])) continue;
      for (Index r = tiles_.begin(tile); r < tiles_.begin(tile + 1); ++r) {
        std::copy(block + layout_.value_begin(), block + layout_.block_elements(),
                  clean + layout_.value_begin());
        for (Index j = 0; j < keys; ++j) {
          if (call_.rules.visible(where(r, first + j))) continue;
          for (Index c = 0; c < dim; ++c) clean[layout_.value_offset(j, c)] = Storage(0);
        }
        multiply_values(Index{1}, layout_, scores(r), clean, begin * strip_width, end * strip_width,
                        0, dim, out_row(r), 0);
      }
    }
  }

  const Call& call_;
  const StripLayout<Storage>& layout_;
  Scratch scratch_;
  Index batch_;
  Index kv_head_;
  Index rows_;
  RowTiles tiles_;
  T scale_;
  SoftmaxState<T>* states_ = nullptr;
  T* out_ = nullptr;
};

}  // namespace GQA_ISA
}  // namespace gqa
