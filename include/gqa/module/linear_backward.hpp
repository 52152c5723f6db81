// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The gradients of a projection y = x Wᵀ + b (linear.hpp), cut into blocks of outer_products.hpp:
//
//   dx = dy W      dW += dyᵀ x      db += Σ_tokens dy
//
// A task owns what it writes and adds in one order, so bits don't depend on the number of workers.
#pragma once

#include <span>

#include "gqa/module/linear.hpp"
#include "gqa/module/outer_products.hpp"

namespace gqa::detail {

/// Tokens of a batch, of which sequence b has lengths[b]; without lengths all of them. Dense
/// batches without lengths are one long sequence.
struct TokenRows {
  Index batch = 0;
  Index tokens = 0;
  std::span<const Index> lengths = {};

  template <typename A, typename B>
  GQA_TAG TokenRows(const TensorView<A>& a, const TensorView<B>& b, std::span<const Index> q_lens)
      : batch(a.batch()), tokens(a.tokens()), lengths(q_lens) {
    GQA_ASSERT(a.batch() == b.batch() && a.tokens() == b.tokens());
    const auto is_matrix = [this](const auto& x) {
      return x.strides().batch == tokens * x.strides().token;
    };
    if (lengths.empty() && is_matrix(a) && is_matrix(b)) {
      tokens *= batch;
      batch = 1;
    }
  }
  GQA_TAG Index length(Index b) const {
    return lengths.empty() ? tokens : lengths[static_cast<std::size_t>(b)];
  }
};

inline namespace GQA_ISA {

/// The row of sequence b's token t, from channel c on.
template <typename T>
T* row_at(const TensorView<T>& x, Index b, Index t, Index c) {
  return x.data() + b * x.strides().batch + t * x.strides().token + c;
}

/// dx = dy W for dy [batch, tokens, 1, out] and dx [batch, tokens, 1, in], or with `add`
/// dx += dy W. Rows after the lengths become 0 (with `add`, stay). Shapes are the caller's
/// responsibility. Allocates nothing.
template <typename T, typename ExecutorT>
void linear_backward_input(TensorView<const T> dy, std::type_identity_t<WeightRows<const T>> w,
                           TensorView<T> dx, std::span<const Index> lengths, bool add,
                           ExecutorT& executor) {
  GQA_ASSERT(dy.dim() == w.out && dx.dim() == w.in);
  const TokenRows rows(dy, dx, lengths);
  const Index token_blocks = ceil_div(rows.tokens, outer_rows);
  const Index input_blocks = ceil_div(w.in, outer_columns<T>);
  executor.run(rows.batch * token_blocks * input_blocks, [&](Index task, Index) noexcept {
    const Index t = task % token_blocks * outer_rows;
    const Index i = task / token_blocks % input_blocks * outer_columns<T>;
    const Index b = task / token_blocks / input_blocks;
    const Index tokens = (std::min)(outer_rows, rows.tokens - t);
    const Index filled = std::clamp<Index>(rows.length(b) - t, 0, tokens);
    const Index inputs = (std::min)(outer_columns<T>, w.in - i);
    T* const out = row_at(dx, b, t, i);
    const Index stride = dx.strides().token;
    for (Index row = filled; !add && row < tokens; ++row) {
      std::fill_n(out + row * stride, inputs, T(0));
    }
    if (filled == 0) return;
    OuterProducts<T> block(filled, inputs);
    add ? block.load(out, stride) : block.set_zero();
    block.add({row_at(dy, b, t, 0), dy.strides().token}, {w.data + i, w.in}, w.out);
    block.store(out, stride);
  });
}

/// dW += dyᵀ x, and dbias += Σ dy unless it is null. Rows after the lengths are not read.
template <typename T, typename ExecutorT>
void linear_backward_weight(TensorView<const T> dy, TensorView<const T> x,
                            std::type_identity_t<WeightRows<T>> dw, T* dbias,
                            std::span<const Index> lengths, ExecutorT& executor) {
  GQA_ASSERT(dy.dim() == dw.out && x.dim() == dw.in);
  const TokenRows rows(dy, x, lengths);
  const Index output_blocks = ceil_div(dw.out, outer_rows);
  const Index input_blocks = ceil_div(dw.in, outer_columns<T>);
  executor.run(output_blocks * input_blocks, [&](Index task, Index) noexcept {
    const Index o = task / input_blocks * outer_rows;
    const Index i = task % input_blocks * outer_columns<T>;
    const Index outputs = (std::min)(outer_rows, dw.out - o);
    OuterProducts<T> block(outputs, (std::min)(outer_columns<T>, dw.in - i));
    block.load(dw.data + o * dw.in + i, dw.in);
    for (Index b = 0; b < rows.batch; ++b) {
      block.add_transposed({row_at(dy, b, 0, o), dy.strides().token},
                           {row_at(x, b, 0, i), x.strides().token}, rows.length(b));
      if (dbias == nullptr || i > 0) continue;
      for (Index t = 0; t < rows.length(b); ++t) {
        const T* const row = row_at(dy, b, t, o);
        for (Index c = 0; c < outputs; ++c) dbias[o + c] += row[c];
      }
    }
    block.store(dw.data + o * dw.in + i, dw.in);
  });
}

}  // namespace GQA_ISA
}  // namespace gqa::detail
