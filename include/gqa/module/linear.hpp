// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The projections around attention: y = x Wᵀ + b, W [out, in] as PyTorch's Linear keeps it. The
// products are Eigen's; this page only cuts them, for two reasons. Eigen packs the whole of W
// before it multiplies a handful of tokens; and it allocates for blocks above its stack limit of
// 128 KiB, which a warm decode step must not. (Compiled with -fopenmp, Eigen's products start
// OpenMP threads of their own.)
#pragma once

#include <algorithm>

#include "gqa/core/view.hpp"
#include "gqa/parallel/executor.hpp"

namespace gqa {

/// A weight [out, in] in memory that somebody else owns.
template <typename T>
using WeightMap =
    Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, Eigen::Unaligned>;
template <typename T>
using ConstWeightMap =
    Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>,
               Eigen::Unaligned>;

namespace detail {

// Sizes of a product that Eigen packs on the stack: 64 x 512 floats are its limit of 128 KiB.
// Measured on 2048 x 2048 (AVX-512, one core): 4 tokens 24 GFLOP/s against 8 in one Eigen product,
// 16 tokens 49 against 26, 64 tokens 67 against 54, 512 tokens 71 against 77.
inline constexpr Index linear_tokens = 64;
inline constexpr Index linear_outputs = 64;
template <typename T>
inline constexpr Index linear_depth = 2048 / Index{sizeof(T)};
/// Up to here, one matrix-vector product per token is faster (4 tokens: 34 GFLOP/s against 24; even
/// at 8), 16 rows of W at a time, so that W comes from memory once.
inline constexpr Index gemv_tokens = 8;
inline constexpr Index gemv_outputs = 16;

inline namespace GQA_ISA {

/// y[0 … tokens)[0 … outputs) of rows with the given strides, a few tokens.
template <typename T>
void linear_gemv(const T* x, Index x_stride, Index tokens, const T* w, Index depth, Index outputs,
                 const T* bias, T* y, Index y_stride) {
  using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;
  for (Index o = 0; o < outputs; o += gemv_outputs) {
    const Index count = (std::min)(gemv_outputs, outputs - o);
    const ConstWeightMap<T> rows(w + o * depth, count, depth);
    for (Index t = 0; t < tokens; ++t) {
      Eigen::Map<Vector> out(y + t * y_stride + o, count);
      out.noalias() = rows * Eigen::Map<const Vector>(x + t * x_stride, depth);
      if (bias) out += Eigen::Map<const Vector>(bias + o, count);
    }
  }
}

/// The same for up to linear_tokens x linear_outputs.
template <typename T>
void linear_gemm(const T* x, Index x_stride, Index tokens, const T* w, Index depth, Index outputs,
                 const T* bias, T* y, Index y_stride) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Stride = Eigen::OuterStride<>;
  Eigen::Map<Matrix, Eigen::Unaligned, Stride> out(y, tokens, outputs, Stride(y_stride));
  if (bias) {
    out.rowwise() = Eigen::Map<const Eigen::Matrix<T, 1, Eigen::Dynamic>>(bias, outputs);
  } else {
    out.setZero();
  }
  for (Index c = 0; c < depth; c += linear_depth<T>) {
    const Index count = (std::min)(linear_depth<T>, depth - c);
    using Part = Eigen::Map<const Matrix, Eigen::Unaligned, Stride>;
    const Part x_part(x + c, tokens, count, Stride(x_stride));
    const Part w_part(w + c, outputs, count, Stride(depth));
    out.noalias() += x_part * w_part.transpose();
  }
}

/// y = x Wᵀ + bias for x [batch, tokens, 1, in] and y [batch, tokens, 1, out]; bias [out] or null.
/// Shapes are the caller's responsibility. Allocates nothing.
template <typename T, typename ExecutorT>
void linear(TensorView<const T> x, ConstWeightMap<T> w, const T* bias, TensorView<T> y,
            ExecutorT& executor) {
  GQA_ASSERT(x.dim() == w.cols() && y.dim() == w.rows());
  GQA_ASSERT(x.batch() == y.batch() && x.tokens() == y.tokens());
  Index batch = x.batch(), tokens = x.tokens();
  if (x.strides().batch == tokens * x.strides().token &&
      y.strides().batch == tokens * y.strides().token) {  // one matrix
    tokens *= batch;
    batch = 1;
  }
  const bool gemv = tokens <= gemv_tokens;
  const auto blocks = [](Index n, Index size) { return (n + size - 1) / size; };
  const Index token_blocks = blocks(tokens, linear_tokens);
  const Index output_blocks = blocks(w.rows(), linear_outputs);
  executor.run(batch * output_blocks * token_blocks, [&](Index task, Index) noexcept {
    const Index t = task % token_blocks * linear_tokens;
    const Index o = task / token_blocks % output_blocks * linear_outputs;
    const Index b = task / token_blocks / output_blocks;
    const auto multiply = gemv ? linear_gemv<T> : linear_gemm<T>;
    multiply(x.data() + b * x.strides().batch + t * x.strides().token, x.strides().token,
             (std::min)(linear_tokens, tokens - t), w.data() + o * w.cols(), w.cols(),
             (std::min)(linear_outputs, w.rows() - o), bias ? bias + o : nullptr,
             y.data() + b * y.strides().batch + t * y.strides().token + o, y.strides().token);
  });
}

}  // namespace GQA_ISA
}  // namespace detail
}  // namespace gqa
