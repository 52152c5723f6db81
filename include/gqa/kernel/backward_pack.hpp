// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What the five products of a backward step read. A register tile broadcasts one factor and has the
// other one in strips, its lanes side by side (tile.hpp):
//
//                     broadcast                     in strips, lanes
//   S = Q Kᵀ          q, packed by tile             k, lanes are keys
//   dP = dO Vᵀ        dout, packed by tile          v, lanes are keys
//   dQ += dS K        dS                            k, lanes are channels
//   dV += Pᵀ dO       P                             dout, lanes are channels
//   dK += dSᵀ Q       dS                            q, lanes are channels
//
// So keys and rows are kept in both forms, whatever the type of the tensors as sums are: float or
// double.
#pragma once

#include "gqa/core/any_rows.hpp"
#include "gqa/kernel/seen.hpp"

namespace gqa::detail {

/// Blocks of 64 keys (in both forms: a StripLayout whose values are keys again) and values.
template <typename T>
struct BackwardLayout {
  StripLayout<T> keys;
  StripLayout<T> values;  // without its values: only lanes of keys

  GQA_TAG BackwardLayout(Index head_dim, Index value_dim)
      : keys(head_dim, head_dim), values(value_dim, 0), value_row_(round_up(value_dim, 16)) {}
  /// A row of q, dq or dk, and of dout or dv, with its padding.
  GQA_TAG Index key_row() const { return keys.padded_value_dim(); }
  GQA_TAG Index value_row() const { return value_row_; }

 private:
  Index value_row_;
};

inline namespace GQA_ISA {

/// The keys and values of one KV head, each block packed when it is first seen: what nobody sees is
/// never read.
template <typename T>
class PackedBlocks {
 public:
  PackedBlocks(Carver& carver, const BackwardLayout<T>& layout, Index blocks)
      : layout_(layout),
        blocks_(blocks),
        keys_(carver.take<T>(blocks * layout.keys.block_elements())),
        values_(carver.take<T>(blocks * layout.values.block_elements())),
        state_(carver.take<State>(blocks)) {}

  struct Block {
    const T* keys = nullptr;
    const T* values = nullptr;
    bool finite_keys = true;
  };

  /// Forgets what is packed.
  void clear() { std::fill_n(state_, blocks_, State::empty); }

  /// Block i, of `keys` keys, of a user's rows.
  Block get(const AnySource& source, Index batch, Index kv_head, Index i, Index keys) {
    T* const k = keys_ + i * layout_.keys.block_elements();
    T* const v = values_ + i * layout_.values.block_elements();
    if (state_[i] == State::empty) {
      with_scalar(source.dtype(), [&]<typename Key>(Key) {
        source.for_each_run<RowRun<Key>>(
            batch, kv_head, i * block_keys, i * block_keys + keys, [&](const RowRun<Key>& run) {
              pack(layout_.keys, run.keys, run.key_stride, run.count, k);
              pack(layout_.values, run.values, run.value_stride, run.count, v);
            });
      });
      const bool finite = all_finite(k, layout_.keys.value_begin());
      state_[i] = finite ? State::finite : State::not_finite;
    }
    return {k, v, state_[i] == State::finite};
  }

 private:
  enum class State : char { empty, finite, not_finite };

  template <Scalar From>
  static void pack(const StripLayout<T>& layout, const From* rows, Index stride, Index count,
                   T* block) {
    const bool filled = count == block_keys && (layout.value_dim() == 0 ||
                                                layout.value_dim() == layout.padded_value_dim());
    if (!filled) zero_tokens(layout, block, 0, block_keys);
    if constexpr (std::same_as<From, T>) {
      pack_run(layout,
               RowRun<T>{.keys = rows,
                         .key_stride = stride,
                         .values = rows,
                         .value_stride = stride,
                         .first = 0,
                         .count = count},
               block);
    } else {
      put_tokens(layout, block, 0, count, rows, stride, rows, stride);
    }
  }

  const BackwardLayout<T>& layout_;
  Index blocks_;
  T* keys_;    // [blocks] of layout.keys
  T* values_;  // [blocks] of layout.values
  State* state_;
};

/// Rows as lanes of channels: [strips of 32 channels][rows][32], the last strip 16 or 32 wide.
template <typename T>
class RowStrips {
 public:
  /// `padded_dim` is a multiple of 16.
  RowStrips(Carver& carver, Index rows, Index padded_dim)
      : data_(carver.take<T>(rows * padded_dim)), padded_dim_(padded_dim) {}

  Index padded_dim() const { return padded_dim_; }
  /// The strip that begins with a channel, a multiple of 32, of `rows` rows.
  T* strip(Index rows, Index channel) const { return data_ + rows * channel; }
  Index width(Index channel) const { return (std::min)(strip_width, padded_dim_ - channel); }

  /// Fills in rows row(0) … row(rows - 1) of `dim` numbers. Are they finite?
  template <typename Row>
  bool fill(Index rows, Index dim, Dtype dtype, Row row) const {
    for (Index channel = 0; channel < padded_dim_; channel += strip_width) {
      const Index w = width(channel), count = std::clamp<Index>(dim - channel, 0, w);
      for (Index r = 0; r < rows; ++r) {
        T* to = strip(rows, channel) + r * w;
        copy_row(row(r) + channel * element_bytes(dtype), dtype, count, to);
        std::fill(to + count, to + w, T(0));
      }
    }
    return all_finite(data_, rows * padded_dim_);
  }
  /// Zeroes a row.
  void zero(Index rows, Index r) const {
    for (Index channel = 0; channel < padded_dim_; channel += strip_width) {
      std::fill_n(strip(rows, channel) + r * width(channel), width(channel), T(0));
    }
  }
  void copy_from(const RowStrips& other, Index rows) const {
    std::copy_n(other.data_, rows * padded_dim_, data_);
  }

 private:
  T* data_;
  Index padded_dim_;
};

}  // namespace GQA_ISA
}  // namespace gqa::detail
