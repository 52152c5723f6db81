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

#include "gqa/kernel/row_tile.hpp"
#include "gqa/kernel/seen.hpp"
#include "gqa/ops/softmax_state.hpp"

namespace gqa {

/// How far ahead of the multiplication keys and values are prefetched, rounded up to whole blocks.
/// On Zen 4, 32 to 128 KiB gave the same decode speed, 8 KiB a third less; prefetching into L1 gave
/// nothing at any distance.
inline constexpr Index prefetch_bytes = 32 * 1024;
/// The same in blocks, at most.
inline constexpr Index max_blocks_ahead = 8;
/// The same for a single row, as MHA decodes, of keys and values that are too many for L3: it takes
/// less time than memory does, and this is just far enough for the processor's own prefetching to
/// go on in the next page of 4 KiB. (Zen 4, 128 MiB, time over that of prefetch_bytes: 0.77 with 4
/// or 5 KiB, 0.87 with 7, 0.98 with 8; 1.08 to 1.25 with 4 KiB where they are in L3. Two rows gain
/// 0.07 and four lose 0.1 with 4 KiB; with 7, four rows gain 0.07 from memory, but lose 0.17 in L3
/// and 0.1 over small pages.)
inline constexpr Index near_prefetch_bytes = 4 * 1024;
/// Keys and values of a batch that don't stay in L3. (On the same machine, of 32 MiB.)
inline constexpr Index large_kv_bytes = 24 * 1024 * 1024;

inline namespace GQA_ISA {

template <typename Storage, typename Rules>
class RowBlock {
 public:
  using T = AccumulatorOf<Storage>;
  using Pack = simd::Pack<T>;
  using Weight = WeightFactor<Storage>;
  static constexpr bool quantized = is_quantized<Storage>;

  /// Scratch of one worker, for blocks of up to `rows` rows.
  struct Scratch {
    typename QueryRows<Storage>::Scratch queries;
    T* scores;              // [rows][64]: S
    Weight* weights;        // [rows][64]: P, in the place of S where the types allow
    T* weight_scale;        // [rows], of quantised weights
    T* sums;                // [rows][lanes of a pack]
    Storage* clean_values;  // one block, see add_values_row_by_row()

    Scratch(Carver& carver, Index rows, const StripLayout<Storage>& layout)
        : queries(carver, rows, layout),
          scores(carver.take<T>(rows * block_keys)),
          weights(take_weights(carver, rows)),
          weight_scale(carver.take<T>(quantized ? rows : 0)),
          sums(carver.take<T>(rows * Pack::size)),
          clean_values(carver.take<Storage>(layout.block_elements())) {}
    /// Of a block that takes its steps in turn with another: what a step leaves behind is shared.
    Scratch(Carver& carver, Index rows, const StripLayout<Storage>& layout, const Scratch& other)
        : Scratch(other) {
      queries = typename QueryRows<Storage>::Scratch(carver, rows, layout);
      sums = carver.take<T>(rows * Pack::size);
    }

   private:
    Weight* take_weights(Carver& carver, Index rows) const {
      if constexpr (std::same_as<Weight, T>) {
        return scores;
      } else {
        return carver.take<Weight>(rows * block_keys);
      }
    }
  };

  /// Rows as QueryRows takes them. `states` and `out` [rows][padded value_dim] of reset() receive
  /// the result of step().
  template <typename Call>
  RowBlock(const Call& call, const StripLayout<Storage>& layout, const Scratch& scratch,
           Index batch, Index kv_head, Index row_begin, Index rows)
      : rules_(call.rules),
        layout_(layout),
        scratch_(scratch),
        kv_head_(kv_head),
        queries_(call, layout, scratch.queries, batch, kv_head, row_begin, rows),
        tiles_(queries_.tiles()),
        scale_(static_cast<T>(call.rules.scale(call.shape.head_dim) * (has_scores ? 1.0 : log2e))),
        scales_differences_(!has_scores && !quantized && scale_ > T(0)),
        difference_scale_(scales_differences_ ? scale_ : T(1)),
        slack_(quantized ? T(0) : T(8) / difference_scale_),
        nearby_(is_nearby(call)) {}

  Index rows() const { return queries_.size(); }
  Index batch() const { return queries_.batch(); }
  Index kv_head() const { return kv_head_; }
  const QueryRow& row(Index r) const { return queries_[r]; }

  /// Starts a new range of keys, whose result goes to `states` and `out`.
  void reset(SoftmaxState<T>* states, T* out) {
    states_ = states;
    out_ = out;
    std::fill_n(states, rows(), SoftmaxState<T>{});
    std::fill_n(out, rows() * layout_.padded_value_dim(), T(0));
    std::fill_n(scratch_.sums, rows() * Pack::size, T(0));
  }

  /// Does no row see any key of [k_begin, k_end)?
  bool skips(Index k_begin, Index k_end) const {
    return coverage_of(rules_, queries_, 0, rows(), k_begin, k_end) == Coverage::skip;
  }

  /// Do all rows see all keys of [k_begin, k_end)?
  bool sees_all(Index k_begin, Index k_end) const {
    return coverage_of(rules_, queries_, 0, rows(), k_begin, k_end) == Coverage::full;
  }

  /// How many blocks ahead of step()'s `block` its `later` is to be.
  Index blocks_ahead() const {
    if (nearby_) return 1;
    return std::min(max_blocks_ahead, ceil_div(prefetch_bytes, layout_.block_bytes()));
  }

  /// One block of keys and values: `keys` of them, from index `first` on. `later` is a block that
  /// will be read soon, or null: it is brought to L2 while this one is multiplied, line by line,
  /// which is what makes a decode step take the larger of memory time and compute time rather than
  /// their sum.
  void step(const Storage* block, Index first, Index keys, const Storage* later = nullptr) {
    const std::uintptr_t ahead = prefetch_distance(block, later, 0);
    Seen seen[max_block_tiles];
    if (!look(rules_, queries_, first, keys, seen)) return;

    // S = Q Kᵀ. Strips outside, so that a strip of keys stays in L1 for all tiles.
    for_each_strip(tiles_, seen, [&](Index tile, int begin, int end) {
      if (nearby_) {  // a single row
        for (int strip = begin; strip < end; ++strip) {
          multiply_keys<1>(layout_, queries_.packed(0), block, strip, strip + 1, scores(0), ahead);
        }
        return;
      }
      multiply_keys(tiles_.height(tile), layout_, queries_.packed(tile), block, begin, end,
                    scores(tiles_.begin(tile)), tile == 0 ? ahead : 0);
    });

    // P = 2^(S - max), O and the sums rescaled where the maximum grew.
    if constexpr (quantized) prefetch_scales(block, ahead);
    for (Index tile = 0; tile < tiles_.count(); ++tile) {
      if (!seen[tile].nothing()) softmax(tile, block, first, keys, seen[tile]);
    }

    // O += P V. Strips outside again, now of channels.
    const Index dim = layout_.padded_value_dim();
    const Index width = tiles_.count() == 1 && !nearby_ ? dim : strip_width;
    const bool poisoned = hides_non_finite_values(block, seen);
    for (Index channel = 0; channel < dim; channel += width) {
      for (Index tile = 0; tile < tiles_.count(); ++tile) {
        if (seen[tile].nothing() || (poisoned && seen[tile].is_partial())) continue;
        const Index r = tiles_.begin(tile);
        multiply_values(tiles_.height(tile), layout_, weights(r), block, seen[tile].key_begin,
                        seen[tile].key_end, channel, std::min(channel + width, dim), out_row(r),
                        weight_scale(r),
                        nearby_ ? prefetch_distance(block, later, layout_.value_offset(0, channel))
                        : tile == 0 ? ahead
                                    : 0);
      }
    }
    if (poisoned) add_values_row_by_row(block, first, keys, seen);
  }

  /// Can step_on_rows() be called for keys [k_begin, k_end)?
  bool steps_on_rows(Index k_begin, Index k_end) const {
    return k_end - k_begin == block_keys && rows() <= max_row_tile_rows &&
           multiplies_rows(layout_) && sees_all(k_begin, k_end);
  }

  /// step() for 64 keys that lie as rows and that all rows see. The 64 keys and values behind them
  /// are brought to L2 meanwhile.
  void step_on_rows(const RowRun<Storage>& run) {
    if constexpr (std::same_as<Storage, float>) {
      const auto ahead = [](Index stride) {
        return static_cast<std::uintptr_t>(block_keys * stride) * sizeof(Storage);
      };
      with_row_tile(rows(), [&]<int Rows>() {
        multiply_key_rows<Rows>(queries_.packed(0), run.keys, run.key_stride, layout_.head_dim(),
                                scores(0), ahead(run.key_stride));
        const Seen all{.strip = {Coverage::full, Coverage::full}, .key_end = block_keys};
        softmax(0, nullptr, run.first, block_keys, all);
        multiply_value_rows<Rows>(weights(0), run.values, run.value_stride, layout_.value_dim(),
                                  out_, ahead(run.value_stride));
      });
    }
  }

  /// Completes the states: adds up the lanes of the sums, scales the maxima.
  void finish() {
    for (Index r = 0; r < rows(); ++r) {
      states_[r].max *= difference_scale_;
      states_[r].sum = reduce_add(Pack::load(sums(r)));
    }
  }

 private:
  static constexpr bool has_scores = Rules::has_scores;
  static constexpr int packs = static_cast<int>(block_keys / Pack::size);
  static constexpr int strip_packs = packs / 2;

  T* scores(Index r) const { return scratch_.scores + r * block_keys; }
  Weight* weights(Index r) const { return scratch_.weights + r * block_keys; }
  T* weight_scale(Index r) const { return quantized ? scratch_.weight_scale + r : nullptr; }
  T* sums(Index r) const { return scratch_.sums + r * Pack::size; }
  T* out_row(Index r) const { return out_ + r * layout_.padded_value_dim(); }

  /// Does step() prefetch near_prefetch_bytes ahead, and read strip after strip, so that a block is
  /// one stream? Not the integers of quantised storage, which need two strips' sums in flight, and
  /// no small blocks, as many begin where the processor doesn't expect it.
  template <typename Call>
  bool is_nearby(const Call& call) const {
    const Index blocks = ceil_div(call.source.length(batch()), block_keys);
    return rows() == 1 && !quantized && layout_.block_bytes() >= 32 * 1024 &&
           call.source.batch() * call.source.num_kv_heads() * blocks >=
               large_kv_bytes / layout_.block_bytes();
  }
  /// What is prefetched when something of a block's strip at `offset` is read: so many bytes behind
  /// it, near the end of the block in what follows it.
  std::uintptr_t prefetch_distance(const Storage* block, const Storage* later, Index offset) const {
    const auto address = [](const Storage* p) { return reinterpret_cast<std::uintptr_t>(p); };
    const std::uintptr_t to_later = later ? address(later) - address(block) : 0;
    if (!nearby_) return to_later;
    constexpr Index near = near_prefetch_bytes;
    const Index bytes = layout_.block_bytes();
    const Index half_strip = layout_.value_strip_elements() * Index{sizeof(Storage)} / 2;
    if (offset * Index{sizeof(Storage)} + half_strip + near < bytes) return near;
    return later ? to_later - static_cast<std::uintptr_t>(bytes - near) : 0;
  }

  /// The scales of the block `ahead` bytes behind this one, as the products do with the rest.
  void prefetch_scales(const Storage* block, std::uintptr_t ahead) const {
    constexpr Index line = alignment / sizeof(float);
    for (Index i = 0; i < 2 * block_keys; i += line) {
      simd::prefetch(layout_.key_scales(block) + i, ahead);
    }
  }

  /// Turns a tile's rows of S into P.
  void softmax(Index tile, const Storage* block, Index first, Index keys, const Seen& seen) {
    const Index begin = tiles_.begin(tile), end = tiles_.begin(tile + 1);
    const bool hides_some = !seen.is_full() || keys < block_keys;
    if constexpr (quantized) {
      for (Index r = begin; r < end; ++r) integer_softmax(r, block, first, keys, seen, hides_some);
      return;
    }
    for (Index r = begin; r < end; ++r) {
      if (!scales_differences_) {
        for (Index i = 0; i < packs; ++i) scaled(r, i, block).store(score_pack(r, i));
      }
      if (has_scores || hides_some) apply_rules(r, first, keys, seen);
    }

    // The maxima of all rows come first: a row's weights wait for its maximum, and there is
    // something else to do meanwhile. Strips that the tile doesn't see are left alone.
    const Index pack_begin = seen.strip[0] == Coverage::skip ? strip_packs : 0;
    const Index pack_end = seen.strip[1] == Coverage::skip ? strip_packs : packs;
    for (Index r = begin; r < end; ++r) {
      Pack highest = Pack::load(score_pack(r, pack_begin));
      for (Index i = pack_begin; i < pack_end; i += strip_packs) {
        GQA_UNROLL
        for (int j = 0; j < strip_packs; ++j) {
          highest = max(highest, Pack::load(score_pack(r, i + j)));
        }
      }
      raise(r, highest);
    }
    const Pack factor = Pack::broadcast(difference_scale_);
    for (Index r = begin; r < end; ++r) {
      const Pack reference = Pack::broadcast(safe_max(states_[r].max));
      Pack sum = Pack::load(sums(r));
      for (Index i = pack_begin; i < pack_end; i += strip_packs) {
        GQA_UNROLL
        for (int j = 0; j < strip_packs; ++j) {
          const Pack difference = Pack::load(score_pack(r, i + j)) - reference;
          sum = sum + simd::Dot<Storage, Product::outputs>::round(
                          exp2(difference * factor), weights(r) + (i + j) * Pack::size);
        }
      }
      sum.store(sums(r));
    }
  }

  /// The same for one row of integers, whose weights are of all 64 keys: those not seen only add
  /// zeros.
  void integer_softmax(Index r, const Storage* block, Index first, Index keys, const Seen& seen,
                       bool hides_some) {
    Pack x[packs];
    GQA_UNROLL
    for (int i = 0; i < packs; ++i) x[i] = scaled(r, i, block);
    if (has_scores || hides_some) {
      GQA_UNROLL
      for (int i = 0; i < packs; ++i) x[i].store(score_pack(r, i));
      apply_rules(r, first, keys, seen);
      GQA_UNROLL
      for (int i = 0; i < packs; ++i) x[i] = Pack::load(score_pack(r, i));
    }
    Pack highest = x[0];
    GQA_UNROLL
    for (int i = 1; i < packs; ++i) highest = max(highest, x[i]);
    raise(r, highest);
    const Pack reference = Pack::broadcast(safe_max(states_[r].max));
    Pack sum = Pack::load(sums(r));
    GQA_UNROLL
    for (int i = 0; i < packs; ++i) {
      x[i] = exp2(x[i] - reference);
      sum = sum + x[i];
    }
    sum.store(sums(r));
    quantize_weights(r, x, block, has_scores || hides_some);
  }

  /// Pack i of the scores of row r.
  T* score_pack(Index r, Index i) const { return scores(r) + i * Pack::size; }

  /// Pack i of the scores of row r, scaled, and times log2(e) where no score rule follows.
  Pack scaled(Index r, Index i, const Storage* block) const {
    const Pack s = Pack::load(score_pack(r, i));
    if constexpr (quantized) {
      const Pack key_scales = Pack::load(layout_.key_scales(block) + i * Pack::size);
      return (s + Pack::broadcast(queries_.offset(r))) *
             (Pack::broadcast(scale_ * queries_.scale(r)) * key_scales);
    } else {
      return s * Pack::broadcast(scale_);
    }
  }

  /// The weights of row r, times the scales of their values, as integers of 0 to 255 and one scale:
  /// each is right to 1/510 of the block's largest.
  void quantize_weights(Index r, Pack (&x)[packs], const Storage* block, bool hides_some) {
    // A hidden value may have a scale of NaN, and 0 · NaN is NaN.
    const float* value_scales = layout_.value_scales(block);
    float visible_scales[block_keys];
    if (hides_some) {
      for (Index j = 0; j < block_keys; ++j) {
        visible_scales[j] = scores(r)[j] == SoftmaxState<T>::empty_max ? 0.0f : value_scales[j];
      }
      value_scales = visible_scales;
    }
    Pack largest = Pack::zero(), poison = Pack::zero();
    GQA_UNROLL
    for (int i = 0; i < packs; ++i) {
      x[i] = x[i] * Pack::load(value_scales + i * Pack::size);
      largest = max(x[i], largest);
      poison = fma(x[i], Pack::zero(), poison);
    }
    // Of weights so small that 255 / most isn't finite, nothing is left beside the row's largest.
    const T most = reduce_max(largest);
    const bool counts = most > T(255) * std::numeric_limits<T>::min();
    const Pack inverse = Pack::broadcast(counts ? T(255) / most : T(0));
    scratch_.weight_scale[r] = (counts ? most / T(255) : T(0)) + reduce_add(poison);
    GQA_UNROLL
    for (int i = 0; i < packs; ++i) {
      simd::Dot<Storage, Product::outputs>::round(x[i] * inverse, weights(r) + i * Pack::size);
    }
  }

  /// The score rules of row r, and -inf for what it doesn't see. log2(e) comes behind the rules,
  /// and the scale before them in a loop of its own: in one, a compiler might contract
  /// s · scale + bias in one place and not another.
  void apply_rules(Index r, Index first, Index keys, const Seen& seen) const {
    T* s = scores(r);
    for (int strip = 0; strip < 2; ++strip) {
      const Index begin = strip * strip_width, end = begin + strip_width;
      const Index visible_end =
          seen.strip[strip] == Coverage::skip ? begin : std::clamp(keys, begin, end);
      if constexpr (has_scores) {
        if constexpr (Rules::template has_pack_scores<T>) {
          for (Index j = begin; j < visible_end; j += Pack::size) {
            const Pack x = rules_.scores(Pack::load(s + j), queries_.where(r, first + j));
            (x * Pack::broadcast(T(log2e))).store(s + j);
          }
        } else {
          for (Index j = begin; j < visible_end; ++j) {
            s[j] = rules_.score(s[j], queries_.where(r, first + j)) * T(log2e);
          }
        }
      }
      if (seen.strip[strip] == Coverage::partial) hide(r, first, begin, visible_end);
      for (Index j = visible_end; j < end; ++j) s[j] = SoftmaxState<T>::empty_max;
    }
  }

  /// Gives scores [begin, end) of row r, whole packs or the last ones, -inf where it doesn't see
  /// the key.
  void hide(Index r, Index first, Index begin, Index end) const {
    T* s = scores(r);
    if constexpr (Rules::has_range) {
      const KeyRange seen = both(rules_.range(queries_.where(r, first)), {0, block_keys});
      const Pack hidden = Pack::broadcast(SoftmaxState<T>::empty_max), lanes = simd::iota<T>();
      for (Index j = begin; j < end; j += Pack::size) {
        Pack x = Pack::load(s + j);
        x = where_greater(Pack::broadcast(static_cast<T>(seen.end - j)), lanes, x, hidden);
        x = where_greater(Pack::broadcast(static_cast<T>(seen.begin - j)), lanes, hidden, x);
        x.store(s + j);
      }
    } else {
      for (Index j = begin; j < end; ++j) {
        s[j] = rules_.visible(queries_.where(r, first + j)) ? s[j] : SoftmaxState<T>::empty_max;
      }
    }
  }

  /// Raises the maximum of row r to the largest of some scores, if that is larger; what has been
  /// summed so far is then scaled down. Most blocks raise nothing and need no horizontal maximum.
  void raise(Index r, Pack highest) {
    SoftmaxState<T>& state = states_[r];
    const T before = state.max;
    if (!any_greater(highest, Pack::broadcast(before + slack_))) return;
    state.max = reduce_max(highest);
    if (before == SoftmaxState<T>::empty_max) return;  // all is zero yet
    const T difference = (before - safe_max(state.max)) * difference_scale_;
    const Pack factor = Pack::broadcast(simd::exp2(difference));
    T* out = out_row(r);
    for (Index c = 0; c < layout_.padded_value_dim(); c += Pack::size) {
      (factor * Pack::load(out + c)).store(out + c);
    }
    (factor * Pack::load(sums(r))).store(sums(r));
  }

  /// Is there a NaN or infinity among the values of keys that some row doesn't see? Its weight is
  /// 0, and 0 · NaN is NaN. (Behind the last key, values are zero.)
  bool hides_non_finite_values(const Storage* block, const Seen* seen) const {
    if constexpr (quantized) return false;  // it would be in a scale, see quantize_weights()
    for (int s = 0; s < 2; ++s) {
      for (Index tile = 0; tile < tiles_.count(); ++tile) {
        if (seen[tile].strip[s] != Coverage::partial) continue;
        if (!finite_values(layout_, block, s * strip_width)) return true;
        break;
      }
    }
    return false;
  }

  /// O += P V for the rows of partial tiles with what a row doesn't see taken as zero: the same
  /// sums in the same order, without 0 · NaN. Slow, and rare.
  void add_values_row_by_row(const Storage* block, Index first, Index keys, const Seen* seen) {
    const Index dim = layout_.padded_value_dim();
    Storage* clean = scratch_.clean_values;
    for (Index tile = 0; tile < tiles_.count(); ++tile) {
      if (seen[tile].nothing() || !seen[tile].is_partial()) continue;
      for (Index r = tiles_.begin(tile); r < tiles_.begin(tile + 1); ++r) {
        std::copy(block + layout_.value_begin(), block + layout_.block_elements(),
                  clean + layout_.value_begin());
        for (Index j = 0; j < keys; ++j) {
          if (rules_.visible(queries_.where(r, first + j))) continue;
          for (Index c = 0; c < dim; ++c) clean[layout_.value_offset(j, c)] = Storage{};
        }
        multiply_values(Index{1}, layout_, weights(r), clean, seen[tile].key_begin,
                        seen[tile].key_end, 0, dim, out_row(r), weight_scale(r), 0);
      }
    }
  }

  const Rules& rules_;
  const StripLayout<Storage>& layout_;
  Scratch scratch_;
  Index kv_head_;
  QueryRows<Storage> queries_;
  RowTiles tiles_;
  T scale_;
  /// Where nothing comes between scaling a score and subtracting the maximum, and scaling keeps
  /// their order, the differences are scaled instead; maxima aren't scaled until finish().
  bool scales_differences_;
  T difference_scale_;
  /// A maximum stays until a score exceeds it by more than this: P is then up to 2^8 rather than 1,
  /// which is as exact, and sums are hardly ever rescaled. Integer weights are 0 to 255 of the real
  /// maximum.
  T slack_;
  bool nearby_;
  SoftmaxState<T>* states_ = nullptr;
  T* out_ = nullptr;
};

}  // namespace GQA_ISA
}  // namespace gqa
