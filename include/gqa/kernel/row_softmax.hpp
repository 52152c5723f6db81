// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// RowSoftmax: the running softmax of a row block, Milakov and Gimelshein's (arXiv 1805.02867):
// scores of 64 more keys become weights 2^(S - max), and what has been summed so far is scaled down
// where a maximum rises. All decisions are made per row.
#pragma once

#include "gqa/kernel/query_rows.hpp"
#include "gqa/kernel/seen.hpp"
#include "gqa/ops/softmax_state.hpp"

namespace gqa {
inline namespace GQA_ISA {

template <typename Storage>
class RowSoftmax {
 public:
  using T = AccumulatorOf<Storage>;
  using Pack = simd::Pack<T>;
  using Weight = WeightFactor<Storage>;
  using Queries = QueryRows<Storage>;
  static constexpr bool quantized = is_quantized<Storage>;
  using State = RowState<T>;

  /// Scratch of one worker, for blocks of up to `rows` rows.
  struct Scratch {
    T* scores;        // [rows][64]: S
    Weight* weights;  // [rows][64]: P, in the place of S where the types allow
    T* weight_scale;  // [rows], of quantised weights
    T* sums;          // [rows][lanes of a pack]

    Scratch(Carver& carver, Index rows)
        : scores(carver.take<T>(rows * block_keys)),
          weights(take_weights(carver, rows)),
          weight_scale(carver.take<T>(quantized ? rows : 0)),
          sums(take_sums(carver, rows)) {}
    /// Of rows that take their steps in turn with others: what a step leaves behind is shared.
    Scratch(Carver& carver, Index rows, const Scratch& other) : Scratch(other) {
      sums = take_sums(carver, rows);
    }

   private:
    static T* take_sums(Carver& carver, Index rows) { return carver.take<T>(rows * Pack::size); }
    Weight* take_weights(Carver& carver, Index rows) const {
      if constexpr (std::same_as<Weight, T>) {
        return scores;
      } else {
        return carver.take<Weight>(rows * block_keys);
      }
    }
  };

  RowSoftmax(const detail::RulesView& rules, const StripLayout<Storage>& layout,
             const Scratch& scratch)
      : rules_(rules),
        layout_(layout),
        scratch_(scratch),
        has_scores_(rules.has_scores()),
        scale_(static_cast<T>(rules.scale(layout.head_dim()) *
                              (has_scores_ ? 1.0 : log2e / convert<double>(State::unit)))),
        scales_differences_(!has_scores_ && !quantized && scale_ > least_scale),
        difference_scale_((scales_differences_ ? scale_ : T(1)) * unit),
        slack_(quantized ? T(0) : T(8) / difference_scale_) {}

  T* scores(Index r) const { return scratch_.scores + r * block_keys; }
  Weight* weights(Index r) const { return scratch_.weights + r * block_keys; }
  T* weight_scale(Index r) const { return quantized ? scratch_.weight_scale + r : nullptr; }
  T* out_row(Index r) const { return out_ + r * layout_.padded_value_dim(); }

  /// From the next reset() on, row r's maximum is `least_max[r]` at least.
  void set_least_max(const T* least_max) { least_max_ = least_max; }
  bool has_least_max() const { return least_max_ != nullptr; }

  /// Starts a new range of keys for rows [0, rows), whose result goes to `states` and `out`.
  void reset(Index rows, State* states, T* out) {
    states_ = states;
    out_ = out;
    std::fill_n(states, rows, State{});
    for (Index r = 0; least_max_ && r < rows; ++r) {
      states[r].max = least_max_[r] / (difference_scale_ / unit);
    }
    std::fill_n(out, rows * layout_.padded_value_dim(), T(0));
    std::fill_n(scratch_.sums, rows * Pack::size, T(0));
  }
  /// Completes the states: adds up the lanes of the sums, scales the maxima.
  void finish(Index rows) {
    for (Index r = 0; r < rows; ++r) {
      states_[r].max *= difference_scale_ / unit;
      states_[r].sum = reduce_add(Pack::load(sums(r)));
    }
  }

  /// Turns S of rows [begin, end) of a tile into P, for keys that begin with number `first`.
  void softmax(const Queries& queries, Index begin, Index end, const Storage* block, Index first,
               Index keys, const Seen& seen) {
    const bool hides_some = !seen.is_full() || keys < block_keys;
    if constexpr (quantized) {
      for (Index r = begin; r < end; ++r) {
        integer_softmax(queries, r, block, first, keys, seen, hides_some);
      }
      return;
    }
    for (Index r = begin; r < end; ++r) {
      if (!scales_differences_) {
        for (Index i = 0; i < packs; ++i) scaled(queries, r, i, block).store(score_pack(r, i));
      }
      if (has_scores_ || hides_some) apply_rules(queries, r, first, keys, seen);
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
          highest = larger(highest, Pack::load(score_pack(r, i + j)));
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
          sum = sum + simd::Dot<Storage, Product::outputs>::store(
                          exp2(difference * factor), weights(r) + (i + j) * Pack::size);
        }
      }
      sum.store(sums(r));
    }
  }

 private:
  static constexpr int packs = static_cast<int>(block_keys / Pack::size);
  static constexpr int strip_packs = packs / 2;
  static constexpr T unit = State::unit;
  /// Under which 8 / scale might be infinite.
  static constexpr T least_scale = 32 * (std::numeric_limits<T>::min)();

  T* sums(Index r) const { return scratch_.sums + r * Pack::size; }

  /// The same for one row of integers, whose weights are of all 64 keys: those not seen only add
  /// zeros.
  void integer_softmax(const Queries& queries, Index r, const Storage* block, Index first,
                       Index keys, const Seen& seen, bool hides_some) {
    Pack x[std::size_t{packs}];
    GQA_UNROLL
    for (int i = 0; i < packs; ++i) x[i] = scaled(queries, r, i, block);
    if (has_scores_ || hides_some) {
      GQA_UNROLL
      for (int i = 0; i < packs; ++i) x[i].store(score_pack(r, i));
      apply_rules(queries, r, first, keys, seen);
      GQA_UNROLL
      for (int i = 0; i < packs; ++i) x[i] = Pack::load(score_pack(r, i));
    }
    Pack highest = x[0];
    GQA_UNROLL
    for (int i = 1; i < packs; ++i) highest = larger(highest, x[i]);
    raise(r, highest);
    const Pack reference = Pack::broadcast(safe_max(states_[r].max));
    Pack sum = Pack::load(sums(r));
    GQA_UNROLL
    for (int i = 0; i < packs; ++i) {
      x[i] = exp2((x[i] - reference) * Pack::broadcast(unit));
      sum = sum + x[i];
    }
    sum.store(sums(r));
    quantize_weights(r, x, block, has_scores_ || hides_some);
  }

  /// Pack i of the scores of row r.
  T* score_pack(Index r, Index i) const { return scores(r) + i * Pack::size; }

  /// Pack i of the scores of row r, scaled, and in the state's unit where no score rule follows.
  Pack scaled(const Queries& queries, Index r, Index i, const Storage* block) const {
    const Pack s = Pack::load(score_pack(r, i));
    if constexpr (quantized) {
      const Pack key_scales = Pack::load(layout_.key_scales(block) + i * Pack::size);
      return (s + Pack::broadcast(queries.offset(r))) *
             (Pack::broadcast(scale_ * queries.scale(r)) * key_scales);
    } else {
      return s * Pack::broadcast(scale_);
    }
  }

  /// The weights of row r, times the scales of their values, as integers of 0 to 255 and one scale:
  /// each is right to 1/510 of the block's largest.
  void quantize_weights(Index r, Pack (&x)[std::size_t{packs}], const Storage* block,
                        bool hides_some) {
    // A hidden value may have a scale of NaN, and 0 · NaN is NaN.
    const float* value_scales = layout_.value_scales(block);
    float visible_scales[block_keys];
    if (hides_some) {
      for (Index j = 0; j < block_keys; ++j) {
        visible_scales[j] = scores(r)[j] == State::empty_max ? 0.0f : value_scales[j];
      }
      value_scales = visible_scales;
    }
    Pack largest = Pack::zero(), poison = Pack::zero();
    GQA_UNROLL
    for (int i = 0; i < packs; ++i) {
      x[i] = x[i] * Pack::load(value_scales + i * Pack::size);
      largest = larger(x[i], largest);
      poison = fma(x[i], Pack::zero(), poison);
    }
    T most = reduce_max(largest);
    T shrink = 1;
    if (most < T(255) * (std::numeric_limits<T>::min)()) {  // 255 / most might be infinite
      constexpr T lift = T(1 << 30) * T(1 << 30);
      GQA_UNROLL
      for (int i = 0; i < packs; ++i) x[i] = x[i] * Pack::broadcast(lift);
      most *= lift;
      shrink = 1 / lift;
    }
    const Pack inverse = Pack::broadcast(most > 0 ? T(255) / most : T(0));
    scratch_.weight_scale[r] = most / T(255) * shrink + reduce_add(poison);
    GQA_UNROLL
    for (int i = 0; i < packs; ++i) {
      simd::Dot<Storage, Product::outputs>::store(x[i] * inverse, weights(r) + i * Pack::size);
    }
  }

  /// The score rules of row r, and -inf for what it doesn't see. The state's unit comes after the
  /// rules, and the scale before them in a loop of its own: in one, a compiler might contract
  /// s · scale + bias in one place and not another.
  void apply_rules(const Queries& queries, Index r, Index first, Index keys,
                   const Seen& seen) const {
    T* s = scores(r);
    Index end_of[2];  // of what is visible of each strip
    for (int strip = 0; strip < 2; ++strip) {
      const Index begin = strip * strip_width, end = begin + strip_width;
      end_of[strip] = seen.strip[strip] == Coverage::skip ? begin : std::clamp(keys, begin, end);
    }
    const Index score_begin = end_of[0] > 0 ? 0 : strip_width;
    const Index score_end = end_of[1] > strip_width ? end_of[1] : end_of[0];
    if (has_scores_ && score_begin < score_end) {
      rules_.score(queries.where(r, first + score_begin), score_end - score_begin, s + score_begin,
                   State::score_factor);
    }
    for (int strip = 0; strip < 2; ++strip) {
      const Index begin = strip * strip_width, end = begin + strip_width;
      if (seen.strip[strip] == Coverage::partial) hide(queries, r, first, begin, end_of[strip]);
      for (Index j = end_of[strip]; j < end; ++j) s[j] = State::empty_max;
    }
  }

  /// Gives scores [begin, end) of row r, whole packs or the last ones, -inf where it doesn't see
  /// the key.
  void hide(const Queries& queries, Index r, Index first, Index begin, Index end) const {
    T* s = scores(r);
    if (rules_.has_range()) {
      const KeyRange seen = queries.range(r, first);
      const Pack hidden = Pack::broadcast(State::empty_max), lanes = simd::iota<T>();
      for (Index j = begin; j < end; j += Pack::size) {
        Pack x = Pack::load(s + j);
        x = where_greater(Pack::broadcast(static_cast<T>(seen.end - j)), lanes, x, hidden);
        x = where_greater(Pack::broadcast(static_cast<T>(seen.begin - j)), lanes, hidden, x);
        x.store(s + j);
      }
    } else {
      rules_.hide(queries.where(r, first + begin), end - begin, s + begin);
    }
  }

  /// Raises the maximum of row r to the largest of some scores, if that is larger; what has been
  /// summed so far is then scaled down. Most blocks raise nothing and need no horizontal maximum.
  void raise(Index r, Pack highest) {
    State& state = states_[r];
    const T before = state.max;
    if (!any_greater(highest, Pack::broadcast(before + slack_))) return;
    state.max = reduce_max(highest);
    if (before == State::empty_max) return;  // all is zero yet
    const T difference = (before - safe_max(state.max)) * difference_scale_;
    const Pack factor = Pack::broadcast(simd::exp2(difference));
    T* out = out_row(r);
    for (Index c = 0; c < layout_.padded_value_dim(); c += Pack::size) {
      (factor * Pack::load(out + c)).store(out + c);
    }
    (factor * Pack::load(sums(r))).store(sums(r));
  }

  const detail::RulesView& rules_;
  const StripLayout<Storage>& layout_;
  Scratch scratch_;
  bool has_scores_;
  T scale_;
  /// Where nothing comes between scaling a score and subtracting the maximum, and scaling keeps
  /// their order, the differences are scaled instead; maxima aren't scaled until finish().
  bool scales_differences_;
  T difference_scale_;
  /// A maximum stays until a score exceeds it by more than this: P is then up to 2^8 rather than 1,
  /// which is as exact, and sums are hardly ever rescaled. Integer weights are 0 to 255 of the real
  /// maximum.
  T slack_;
  const T* least_max_ = nullptr;
  State* states_ = nullptr;
  T* out_ = nullptr;
};

}  // namespace GQA_ISA
}  // namespace gqa
