// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The projections around attention: y = x Wᵀ + b, W [out, in] as PyTorch's Linear keeps it. The
// product is in dot_products.hpp; this page cuts it into tasks, each of which owns what it writes.
#pragma once

#include <algorithm>

#include "gqa/core/eigen.hpp"
#include "gqa/core/view.hpp"
#include "gqa/layout/strips.hpp"
#include "gqa/module/dot_products.hpp"
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

/// What a pass needs of a weight [out, in].
template <typename T>
struct WeightRows {
  T* data = nullptr;
  Index out = 0;
  Index in = 0;

  GQA_TAG WeightRows(T* first, Index rows, Index columns) : data(first), out(rows), in(columns) {}
  template <typename Map>
    requires requires(Map& map) { map.outerStride(); }
  GQA_TAG WeightRows(Map map)  // NOLINT(google-explicit-constructor)
      : data(map.data()), out(map.rows()), in(map.cols()) {}
};

/// A task's share: whole tiles of every height; with fewer outputs a small layer would have fewer
/// tasks than workers, with more tokens what is read of x would leave L2.
inline constexpr Index linear_tokens = 64;
inline constexpr Index linear_outputs = 48;

inline namespace GQA_ISA {

/// y = x Wᵀ + bias for x [batch, tokens, 1, in] and y [batch, tokens, 1, out]; bias [out] or null.
/// Shapes are the caller's responsibility. Allocates nothing.
template <typename T, typename ExecutorT>
void linear(TensorView<const T> x, std::type_identity_t<WeightRows<const T>> w, const T* bias,
            TensorView<T> y, ExecutorT& executor) {
  GQA_ASSERT(x.dim() == w.in && y.dim() == w.out);
  GQA_ASSERT(x.batch() == y.batch() && x.tokens() == y.tokens());
  Index batch = x.batch(), tokens = x.tokens();
  if (x.strides().batch == tokens * x.strides().token &&
      y.strides().batch == tokens * y.strides().token) {  // one matrix
    tokens *= batch;
    batch = 1;
  }
  const Index token_blocks = ceil_div(tokens, linear_tokens);
  const Index output_blocks = ceil_div(w.out, linear_outputs);
  executor.run(batch * output_blocks * token_blocks, [&](Index task, Index) noexcept {
    const Index t = task % token_blocks * linear_tokens;
    const Index o = task / token_blocks % output_blocks * linear_outputs;
    const Index b = task / token_blocks / output_blocks;
    multiply_rows(x.data() + b * x.strides().batch + t * x.strides().token, x.strides().token,
                  (std::min)(linear_tokens, tokens - t), w.data + o * w.in, w.in,
                  (std::min)(linear_outputs, w.out - o), bias ? bias + o : nullptr,
                  y.data() + b * y.strides().batch + t * y.strides().token + o, y.strides().token);
  });
}

}  // namespace GQA_ISA
}  // namespace detail
}  // namespace gqa
