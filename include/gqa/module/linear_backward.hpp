// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The gradients of a projection y = x Wᵀ + b (linear.hpp), cut into products of the same sizes:
//
//   dx = dy W      dW += dyᵀ x      db += Σ_tokens dy
//
// A task owns what it writes and adds in one order, so bits don't depend on the number of workers.
#pragma once

#include <span>

#include "gqa/module/linear.hpp"

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

template <typename T>
using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <typename T>
using ConstRows = Eigen::Map<const RowMajor<T>, Eigen::Unaligned, Eigen::OuterStride<>>;
template <typename T>
using MutableRows = Eigen::Map<RowMajor<T>, Eigen::Unaligned, Eigen::OuterStride<>>;

/// Rows [t, t + count) and columns [c, c + width) of sequence b.
template <typename T>
ConstRows<T> rows_at(const TensorView<const T>& x, Index b, Index t, Index count, Index c,
                     Index width) {
  const auto& s = x.strides();
  return {x.data() + b * s.batch + t * s.token + c, count, width, Eigen::OuterStride<>(s.token)};
}

/// dx = dy W for dy [batch, tokens, 1, out] and dx [batch, tokens, 1, in], or with `add`
/// dx += dy W. Rows behind the lengths become 0 (with `add`, stay). Shapes are the caller's
/// responsibility. Allocates nothing.
template <typename T, typename ExecutorT>
void linear_backward_input(TensorView<const T> dy, ConstWeightMap<T> w, TensorView<T> dx,
                           std::span<const Index> lengths, bool add, ExecutorT& executor) {
  GQA_ASSERT(dy.dim() == w.rows() && dx.dim() == w.cols());
  const TokenRows rows(dy, dx, lengths);
  const auto blocks = [](Index n, Index size) { return (n + size - 1) / size; };
  const Index token_blocks = blocks(rows.tokens, linear_tokens);
  const Index input_blocks = blocks(w.cols(), linear_outputs);
  executor.run(rows.batch * token_blocks * input_blocks, [&](Index task, Index) noexcept {
    const Index t = task % token_blocks * linear_tokens;
    const Index i = task / token_blocks % input_blocks * linear_outputs;
    const Index b = task / token_blocks / input_blocks;
    const Index tokens = (std::min)(linear_tokens, rows.tokens - t);
    const Index filled = std::clamp<Index>(rows.length(b) - t, 0, tokens);
    const Index inputs = (std::min)(linear_outputs, w.cols() - i);
    const auto& s = dx.strides();
    MutableRows<T> out(dx.data() + b * s.batch + t * s.token + i, tokens, inputs,
                       Eigen::OuterStride<>(s.token));
    if (!add) out.setZero();
    if (filled == 0) return;
    for (Index o = 0; o < w.rows(); o += linear_depth<T>) {
      const Index outputs = (std::min)(linear_depth<T>, w.rows() - o);
      const ConstRows<T> part(w.data() + o * w.cols() + i, outputs, inputs,
                              Eigen::OuterStride<>(w.cols()));
      out.topRows(filled).noalias() += rows_at(dy, b, t, filled, o, outputs) * part;
    }
  });
}

/// dW += dyᵀ x, and dbias += Σ dy unless it is null. Rows behind the lengths are not read.
template <typename T, typename ExecutorT>
void linear_backward_weight(TensorView<const T> dy, TensorView<const T> x, WeightMap<T> dw,
                            T* dbias, std::span<const Index> lengths, ExecutorT& executor) {
  GQA_ASSERT(dy.dim() == dw.rows() && x.dim() == dw.cols());
  const TokenRows rows(dy, x, lengths);
  const auto blocks = [](Index n, Index size) { return (n + size - 1) / size; };
  const Index output_blocks = blocks(dw.rows(), linear_outputs);
  const Index input_blocks = blocks(dw.cols(), linear_tokens);
  executor.run(output_blocks * input_blocks, [&](Index task, Index) noexcept {
    const Index o = task / input_blocks * linear_outputs;
    const Index i = task % input_blocks * linear_tokens;
    const Index outputs = (std::min)(linear_outputs, dw.rows() - o);
    const Index inputs = (std::min)(linear_tokens, dw.cols() - i);
    MutableRows<T> out(dw.data() + o * dw.cols() + i, outputs, inputs,
                       Eigen::OuterStride<>(dw.cols()));
    for (Index b = 0; b < rows.batch; ++b) {
      for (Index t = 0; t < rows.length(b); t += linear_depth<T>) {
        const Index tokens = (std::min)(linear_depth<T>, rows.length(b) - t);
        const auto dy_part = rows_at(dy, b, t, tokens, o, outputs);
        out.noalias() += dy_part.transpose() * rows_at(x, b, t, tokens, i, inputs);
        if (dbias == nullptr || i > 0) continue;
        for (Index row = 0; row < tokens; ++row) {
          for (Index c = 0; c < outputs; ++c) dbias[o + c] += dy_part(row, c);
        }
      }
    }
  });
}

}  // namespace GQA_ISA
}  // namespace gqa::detail
