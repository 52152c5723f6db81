// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// BackwardBlock: the query rows that a task carries past a KV head's keys, backwards. Its step() is
// the gradient of attention, 64 keys against all rows (Dao et al. 2022, arXiv 2205.14135, app.
// B.2):
//
//   forward                        gradient
//   S = Q Kᵀ                       dQ += dS K,  dK += dSᵀ Q
//   P = 2^(S - lse)                dS = P (dP - delta),  delta = Σ_c out dout
//   O = P V                        dP = dO Vᵀ,  dV += Pᵀ dO
//
// (Where lse is too coarse to tell P by, backward_sums.hpp says what else does.)
//
// What is hidden has P = dS = 0; keys, queries and incoming gradients that are not finite reach
// only the pairs that see one another.
#pragma once

#include "gqa/kernel/backward_call.hpp"
#include "gqa/kernel/backward_pack.hpp"
#include "gqa/kernel/backward_sums.hpp"
#include "gqa/kernel/query_rows.hpp"

namespace gqa {
inline namespace GQA_ISA {

/// Keys of a tile of dK and dV: with 2 registers of channels each, 16 sums (8 on machines of 16
/// registers).
inline constexpr int key_tile = simd::registers >= 32 ? 8 : 4;

template <typename T>
class BackwardBlock {
 public:
  using Call = detail::BackwardCall<T>;
  using Pack = simd::Pack<T>;
  using Layout = detail::BackwardLayout<T>;
  using Block = typename detail::PackedBlocks<T>::Block;
  using RowStrips = detail::RowStrips<T>;
  using RowSum = detail::RowSum<T>;

  /// Scratch of one worker, for blocks of up to `rows` rows.
  struct Scratch {
    typename QueryRows<T>::Scratch queries, douts;
    RowStrips q, dout, clean_q, clean_dout;
    T* weights;      // [rows][64]: S, then P
    T* dscores;      // [rows][64]: dP, then dS
    T* dq;           // [rows][key_row]
    T* lse;          // [rows], times log2(e)
    T* delta;        // [rows]
    RowSum* own;     // [rows]
    T* derivatives;  // [2][64]: of a row's scores, in the products and in the bias
    T* clean_keys;   // one block, see add_dq_row_by_row()

    Scratch(Carver& carver, const Layout& layout, Index rows)
        : queries(carver, rows, layout.keys),
          douts(carver, rows, layout.values),
          q(carver, rows, layout.key_row()),
          dout(carver, rows, layout.value_row()),
          clean_q(carver, rows, layout.key_row()),
          clean_dout(carver, rows, layout.value_row()),
          weights(carver.take<T>(rows * block_keys)),
          dscores(carver.take<T>(rows * block_keys)),
          dq(carver.take<T>(rows * layout.key_row())),
          lse(carver.take<T>(rows)),
          delta(carver.take<T>(rows)),
          own(carver.take<RowSum>(rows)),
          derivatives(carver.take<T>(2 * block_keys)),
          clean_keys(carver.take<T>(layout.keys.block_elements())) {}
  };

  BackwardBlock(const Call& call, const detail::RulesView& rules, const Layout& layout,
                const Scratch& scratch, const detail::RowSums<T>& sums, const RowRange& range)
      : call_(call),
        rules_(rules),
        layout_(layout),
        scratch_(scratch),
        sums_(sums),
        queries_(call, call.q, layout.keys, scratch.queries, range),
        douts_(call, call.dout, layout.values, scratch.douts, range),
        tiles_(queries_.tiles()),
        has_scores_(rules.has_scores()),
        scale_(static_cast<T>(rules.scale(call.shape.head_dim))) {
    const Index rows = range.count;
    const auto fill = [&](const RowStrips& strips, const detail::AnyRows<const std::byte>& x) {
      return strips.fill(rows, x.shape.dim, x.dtype, [&](Index r) { return row_of(x, r); });
    };
    const bool finite_q = fill(scratch.q, call.q), finite_dout = fill(scratch.dout, call.dout);
    finite_rows_ = finite_q && finite_dout;
    std::fill_n(scratch.dq, rows * layout.key_row(), T(0));
    for (Index r = 0; r < rows; ++r) {
      const T lse = call.template lse_of<T>(range.batch, queries_[r].head, queries_[r].q_index);
      // A row that sees no key has lse -inf: 2^(S - inf) = 0, where S + inf could be NaN.
      scratch.lse[r] = lse == SoftmaxState<T>::empty_max ? -lse : lse * T(log2e);
      scratch.delta[r] = sums.delta[number(r)];
      scratch.own[r] = RowSum(lse);
      needs_sums_ |= scratch.own[r].is_wanted();
    }
  }

  Index rows() const { return queries_.size(); }

  /// Does no row see any key of [k_begin, k_end)?
  bool skips(Index k_begin, Index k_end) const {
    return queries_.coverage(rules_, 0, rows(), k_begin, k_end) == Coverage::skip;
  }

  /// Is some row's lse too coarse? All blocks of keys then go to add_to_sums(), and finish_sums()
  /// comes before the first step().
  bool needs_sums() const { return needs_sums_; }

  /// One block of keys and values, as step() takes it, for the sums of these rows.
  void add_to_sums(const Block& block, Index first, Index keys) {
    Seen seen[max_block_tiles];
    if (!look(rules_, queries_, first, keys, Coverage::partial, seen)) return;
    for (Index tile = 0; tile < tiles_.count(); ++tile) {
      const RowSum* own = scratch_.own + tiles_.begin(tile);
      const auto is_wanted = [](const RowSum& sum) { return sum.is_wanted(); };
      if (!std::any_of(own, own + tiles_.height(tile), is_wanted)) {
        seen[tile] = {.strip = {Coverage::skip, Coverage::skip}};
      }
    }
    multiply_rows_by_keys(block, seen);
    for (Index tile = 0; tile < tiles_.count(); ++tile) {
      if (seen[tile].nothing()) continue;
      for (Index r = tiles_.begin(tile); r < tiles_.begin(tile + 1); ++r) {
        if (!scratch_.own[r].is_wanted()) continue;
        find_scores(r, first, keys);
        hide(r, first, keys, seen[tile], SoftmaxState<T>::empty_max);
        scratch_.own[r].add(weights(r), dscores(r), block_keys);
      }
    }
  }
  void finish_sums() {
    for (Index r = 0; r < rows(); ++r) {
      RowSum& own = scratch_.own[r];
      if (own.is_wanted()) {
        own.finish(static_cast<T>(rules_.sink(queries_[r].head)));
        if (own.is_wanted()) scratch_.delta[r] = sums_.delta[number(r)] = own.delta();
      }
      if (sums_.own) sums_.own[number(r)] = own;
    }
  }

  /// One block of keys and values: `keys` of them, from index `first` on. Adds to their dk
  /// [64][key_row] and dv [64][value_row].
  void step(const Block& block, Index first, Index keys, T* dk, T* dv) {
    Seen seen[max_block_tiles];
    if (!look(rules_, queries_, first, keys, Coverage::partial, seen)) return;

    // S = Q Kᵀ, dP = dO Vᵀ
    multiply_rows_by_keys(block, seen);

    // P = 2^(S - lse), dS = P (dP - delta)
    for (Index tile = 0; tile < tiles_.count(); ++tile) {
      const Index begin = tiles_.begin(tile), height = tiles_.height(tile);
      if (seen[tile].nothing()) {  // a tile of dK may lie across it
        std::fill_n(weights(begin), height * block_keys, T(0));
        std::fill_n(dscores(begin), height * block_keys, T(0));
        continue;
      }
      for (Index r = begin; r < begin + height; ++r) softmax_gradient(r, first, keys, seen[tile]);
    }

    // dQ += dS K
    const Index dim = layout_.key_row();
    for (Index channel = 0; channel < dim; channel += strip_width) {
      for (Index tile = 0; tile < tiles_.count(); ++tile) {
        if (seen[tile].nothing() || (!block.finite_keys && seen[tile].is_partial())) continue;
        const Index r = tiles_.begin(tile);
        multiply_values(tiles_.height(tile), layout_.keys, dscores(r), block.keys,
                        seen[tile].key_begin, seen[tile].key_end, channel,
                        (std::min)(channel + strip_width, dim), dq(r),
                        static_cast<const T*>(nullptr), {});
      }
    }
    if (!block.finite_keys) add_dq_row_by_row(block.keys, first, keys, seen);

    // dV += Pᵀ dO, dK += dSᵀ Q
    const bool all_full =
        std::all_of(seen, seen + tiles_.count(), [](const Seen& tile) { return tile.is_full(); });
    if (finite_rows_ || all_full) {
      multiply_rows<key_tile>(scratch_.dout, scratch_.weights, seen, 0, block_keys, dv);
      multiply_rows<key_tile>(scratch_.q, scratch_.dscores, seen, 0, block_keys, dk);
    } else {
      add_keys_one_by_one(first, keys, seen, dk, dv);
    }
  }

  /// Writes dq.
  void finish() {
    constexpr Index ahead = 4;  // rows are far apart: as in put_tokens()
    const Index dim = call_.shape.head_dim, bytes = dim * detail::element_bytes(call_.dq.dtype);
    for (Index r = 0; r < rows(); ++r) {
      if (r + ahead < rows()) prefetch_row(row_of(call_.dq, r + ahead), bytes);
      detail::write_row(dq(r), scale_, dim, row_of(call_.dq, r), call_.dq.dtype);
    }
  }

 private:
  T* weights(Index r) const { return scratch_.weights + r * block_keys; }
  T* dscores(Index r) const { return scratch_.dscores + r * block_keys; }
  T* dq(Index r) const { return scratch_.dq + r * layout_.key_row(); }
  /// Row r of a tensor.
  template <typename Byte>
  Byte* row_of(const detail::AnyRows<Byte>& x, Index r) const {
    return x.row(queries_.batch(), queries_[r].q_index, queries_[r].head);
  }
  /// Where row r is in [batch, num_heads, q_len].
  Index number(Index r) const {
    return (queries_.batch() * call_.shape.num_heads + queries_[r].head) * call_.shape.q_len +
           queries_[r].q_index;
  }

  /// S = Q Kᵀ, dP = dO Vᵀ. The next block comes to L2 meanwhile: packed keys of a long sequence are
  /// in L3.
  void multiply_rows_by_keys(const Block& block, const Seen* seen) const {
    const auto ahead = [](Index tile, const auto& layout) {
      return Prefetch{tile == 0 ? static_cast<std::uintptr_t>(layout.block_bytes()) : 0};
    };
    for_each_strip(tiles_, seen, [&](Index tile, int begin, int end) {
      const Index r = tiles_.begin(tile);
      multiply_keys(tiles_.height(tile), layout_.keys, queries_.packed(tile), block.keys, begin,
                    end, weights(r), ahead(tile, layout_.keys));
      multiply_keys(tiles_.height(tile), layout_.values, douts_.packed(tile), block.values, begin,
                    end, dscores(r), ahead(tile, layout_.values));
    });
  }

  /// Turns row r of S into what the softmax was given.
  void find_scores(Index r, Index first, Index keys) {
    T* s = weights(r);
    const Pack scale = Pack::broadcast(scale_);
    for (Index j = 0; j < block_keys; j += Pack::size) (Pack::load(s + j) * scale).store(s + j);
    if (!has_scores_) return;
    T* of_score = scratch_.derivatives;
    rules_.derivative(queries_.where(r, first), keys, s, of_score, of_score + block_keys);
  }

  /// Turns row r of S and dP into P and dS. All 64 keys: those not seen get zeros.
  void softmax_gradient(Index r, Index first, Index keys, const Seen& seen) {
    T* p = weights(r);
    T* ds = dscores(r);
    // Rules first, in a loop of their own.
    const RowSum& own = scratch_.own[r];
    if (has_scores_ || own.is_wanted()) find_scores(r, first, keys);
    if (own.is_wanted()) {
      weigh_by_own_sum(r);
    } else {
      const Pack factor = Pack::broadcast(has_scores_ ? T(log2e) : scale_ * T(log2e));
      const Pack lse = Pack::broadcast(scratch_.lse[r]), delta = Pack::broadcast(scratch_.delta[r]);
      GQA_UNROLL
      for (int j = 0; j < static_cast<int>(block_keys); j += static_cast<int>(Pack::size)) {
        const Pack weight = exp2(Pack::load(p + j) * factor - lse);
        weight.store(p + j);
        (weight * (Pack::load(ds + j) - delta)).store(ds + j);
      }
    }
    hide(r, first, keys, seen, T(0));
    add_bias_gradient(r, first, keys);
    if (has_scores_ && !rules_.only_shifts()) {
      for (Index j = 0; j < block_keys; j += Pack::size) {
        (Pack::load(ds + j) * Pack::load(scratch_.derivatives + j)).store(ds + j);
      }
    }
  }

  /// P = 2^((S - largest) log2(e)) / sum of row r, and dS.
  void weigh_by_own_sum(Index r) {
    const Pack delta = Pack::broadcast(scratch_.delta[r]);
    for (Index j = 0; j < block_keys; j += Pack::size) {
      const Pack weight = scratch_.own[r].weight(Pack::load(weights(r) + j));
      weight.store(weights(r) + j);
      (weight * (Pack::load(dscores(r) + j) - delta)).store(dscores(r) + j);
    }
  }

  /// Gives what row r doesn't see the weight or score `hidden` and a gradient of 0, whatever came
  /// of it so far.
  void hide(Index r, Index first, Index keys, const Seen& seen, T hidden) {
    const auto hide_key = [&](Index j) {
      weights(r)[j] = hidden;
      dscores(r)[j] = 0;
      if (has_scores_) scratch_.derivatives[j] = 0;
    };
    for (int strip = 0; strip < 2; ++strip) {
      const Index begin = strip * strip_width, end = begin + strip_width;
      const Index visible_end =
          seen.strip[strip] == Coverage::skip ? begin : std::clamp(keys, begin, end);
      if (seen.strip[strip] == Coverage::partial) {
        bool visible[strip_width];
        if (rules_.has_range()) {
          const KeyRange range = queries_.range(r, first);
          for (Index j = begin; j < visible_end; ++j) {
            visible[j - begin] = j >= range.begin && j < range.end;
          }
        } else {
          rules_.see(queries_.where(r, first + begin), visible_end - begin, visible);
        }
        for (Index j = begin; j < visible_end; ++j) {
          if (!visible[j - begin]) hide_key(j);
        }
      }
      for (Index j = visible_end; j < end; ++j) hide_key(j);
    }
  }

  /// Adds row r of dS to the gradient of the bias among the rules, if one is wanted.
  void add_bias_gradient(Index r, Index first, Index keys) {
    const T* ds = dscores(r);
    const T* of_bias = scratch_.derivatives + block_keys;
    if (const auto& bias = call_.backward.bias_gradient) {
      T* to = bias.row(queries_.batch(), queries_[r].head, queries_[r].q_index) + first;
      for (Index j = 0; j < (std::min)(keys, bias.shape().kv_len - first); ++j) {
        if (ds[j] != 0) to[j] += ds[j] * of_bias[j];
      }
    }
    if (const auto& table = call_.backward.relative_bias_gradient; !table.empty()) {
      const auto& bias =
          *static_cast<const RelativeBias*>(rules_.find(detail::PartKind::relative_bias)->part);
      for (Index j = 0; j < keys; ++j) {
        const Where at = queries_.where(r, first + j);
        const Index i = bias.bucket_of(at.k_pos - at.q_pos) * bias.num_heads + at.head;
        if (ds[j] != 0) table[static_cast<std::size_t>(i)] += ds[j] * of_bias[j];
      }
    }
  }

  /// C += Aᵀ B for keys [begin, end) of the block, a multiple of Keys: A is P or dS [rows][64], B
  /// the rows of dout or q, C [64][padded dim]. Rows before and after those that see a tile's keys
  /// are left out.
  template <int Keys>
  void multiply_rows(const RowStrips& b, const T* a, const Seen* seen, Index begin, Index end,
                     T* c) const {
    constexpr Index size = Pack::size;
    constexpr int wide = 2, narrow = static_cast<int>(std::min<Index>(2, strip_width / 2 / size));
    using A = Step<1, block_keys>;
    const Index dim = b.padded_dim();
    for (Index channel = 0; channel < dim; channel += strip_width) {
      const Index width = b.width(channel);
      for (Index key = begin; key < end; key += Keys) {
        const auto sees = [&](Index tile) {
          return seen[tile].key_begin <= key && key < seen[tile].key_end;
        };
        Index from = 0, to = tiles_.count();
        while (from < to && !sees(from)) ++from;
        while (from < to && !sees(to - 1)) --to;
        if (from == to) continue;
        const Index row = tiles_.begin(from), count = tiles_.begin(to) - row;
        const T* factors = a + row * block_keys + key;
        const T* lanes = b.strip(rows(), channel) + row * width;
        T* sums = c + key * dim + channel;
        if (width == strip_width) {
          for (Index lane = 0; lane < width; lane += wide * size) {
            multiply<Keys, wide, A, Product::outputs>(factors, lanes + lane, width, 0, count,
                                                      sums + lane, dim, nullptr, {});
          }
        } else {
          for (Index lane = 0; lane < width; lane += narrow * size) {
            multiply<Keys, narrow, A, Product::outputs>(factors, lanes + lane, width, 0, count,
                                                        sums + lane, dim, nullptr, {});
          }
        }
      }
    }
  }

  /// dQ += dS K for the rows of partial tiles with what a row doesn't see taken as zero: the same
  /// sums in the same order, without 0 · NaN. Slow, and rare.
  void add_dq_row_by_row(const T* block, Index first, Index keys, const Seen* seen) {
    const Index dim = layout_.key_row();
    T* clean = scratch_.clean_keys;
    for (Index tile = 0; tile < tiles_.count(); ++tile) {
      if (seen[tile].nothing() || !seen[tile].is_partial()) continue;
      for (Index r = tiles_.begin(tile); r < tiles_.begin(tile + 1); ++r) {
        std::copy(block, block + layout_.keys.block_elements(), clean);
        bool visible[block_keys];
        rules_.see(queries_.where(r, first), keys, visible);
        for (Index j = 0; j < keys; ++j) {
          if (visible[j]) continue;
          for (Index c = 0; c < dim; ++c) clean[layout_.keys.value_offset(j, c)] = T(0);
        }
        multiply_values(Index{1}, layout_.keys, dscores(r), clean, seen[tile].key_begin,
                        seen[tile].key_end, 0, dim, dq(r), static_cast<const T*>(nullptr), {});
      }
    }
  }

  /// dV += Pᵀ dO, dK += dSᵀ Q in the same way: for each key, rows that don't see it taken as zero.
  void add_keys_one_by_one(Index first, Index keys, const Seen* seen, T* dk, T* dv) {
    for (Index j = 0; j < keys; ++j) {
      scratch_.clean_q.copy_from(scratch_.q, rows());
      scratch_.clean_dout.copy_from(scratch_.dout, rows());
      for (Index r = 0; r < rows(); ++r) {
        if (rules_.visible(queries_.where(r, first + j))) continue;
        scratch_.clean_q.zero(rows(), r);
        scratch_.clean_dout.zero(rows(), r);
      }
      multiply_rows<1>(scratch_.clean_dout, scratch_.weights, seen, j, j + 1, dv);
      multiply_rows<1>(scratch_.clean_q, scratch_.dscores, seen, j, j + 1, dk);
    }
  }

  const Call& call_;
  const detail::RulesView& rules_;
  const Layout& layout_;
  Scratch scratch_;
  const detail::RowSums<T>& sums_;
  QueryRows<T> queries_;
  QueryRows<T> douts_;
  RowTiles tiles_;
  bool has_scores_;
  T scale_;
  bool finite_rows_ = true;
  bool needs_sums_ = false;
};

}  // namespace GQA_ISA
}  // namespace gqa
