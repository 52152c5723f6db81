// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Hidden states as views. Between attention layers a model holds [batch, tokens, width] tensors, or
// plain matrices of one row per token; rows_of() makes a TensorView [batch, tokens, 1, width] of
// either, so that row-wise operations are written once.
#pragma once

#include "gqa/core/view.hpp"

namespace gqa {

namespace detail {

/// An Eigen matrix, map, block or expression; tensors have no RowsAtCompileTime.
template <typename T>
concept DenseMatrix = requires { T::RowsAtCompileTime; };

template <typename T>
GQA_TAG auto matrix_rows(T&& matrix) {
  using Plain = std::remove_cvref_t<T>;
  static_assert(bool(int(Plain::Flags) & direct_access_bit),
                "rows_of takes a matrix, map or block: evaluate an Eigen expression first");
  static_assert(int(Plain::InnerStrideAtCompileTime) == 1,
                "rows_of needs contiguous rows (an inner stride of 1)");
  static_assert(bool(Plain::IsRowMajor) || bool(Plain::IsVectorAtCompileTime),
                "rows_of needs a RowMajor matrix, one row per token. Eigen's default, ColMajor, "
                "would scatter a token's channels");
  constexpr bool is_vector = bool(Plain::IsVectorAtCompileTime);  // one row, however it stands
  const Index tokens = is_vector ? 1 : matrix.rows();
  const Index width = is_vector ? matrix.size() : matrix.cols();
  const Index stride = is_vector ? width : matrix.outerStride();
  return TensorView<std::remove_pointer_t<decltype(matrix.data())>>(
      matrix.data(), {.batch = 1, .tokens = tokens, .heads = 1, .dim = width},
      {.batch = tokens * stride, .token = stride, .head = width});
}

template <typename T>
GQA_TAG auto tensor_rows(T&& tensor) {
  using Plain = std::remove_cvref_t<T>;
  static_assert(int(Plain::Layout) == row_major,
                "rows_of needs a RowMajor tensor: write Eigen::Tensor<T, 3, Eigen::RowMajor>");
  constexpr int rank = Plain::NumDimensions;
  static_assert(rank >= 1 && rank <= 3,
                "rows_of takes tensors of rank 3, [batch, tokens, width], 2 or 1");
  const Index batch = rank == 3 ? Index(tensor.dimension(0)) : 1;
  const Index tokens = rank >= 2 ? Index(tensor.dimension(rank == 3 ? 1 : 0)) : 1;
  return TensorView<ElementOf<T>>(
      tensor.data(),
      {.batch = batch, .tokens = tokens, .heads = 1, .dim = Index(tensor.dimension(rank - 1))});
}

}  // namespace detail

/// A view [batch, tokens, 1, width] of a row-major Eigen tensor of rank 3, 2 ([tokens, width]) or
/// 1, or of a row-major matrix, map or block of [tokens, width]; a vector is one row. A TensorView
/// passes through unchanged, and a tensor of rank 4 is [batch, tokens, heads, dim] as elsewhere. A
/// temporary that owns its numbers doesn't compile.
template <typename T>
GQA_TAG auto rows_of(T&& x) {
  using Plain = std::remove_cvref_t<T>;
  if constexpr (detail::is_tensor_view<Plain>) {
    return x;
  } else if constexpr (detail::DenseMatrix<Plain>) {
    detail::refuse_temporary<T>();
    return detail::matrix_rows(x);
  } else {
    static_assert(detail::EigenTensor<Plain>,
                  "rows_of takes a matrix, Eigen::Tensor, Eigen::TensorMap or gqa::TensorView");
    detail::refuse_temporary<T>();
    if constexpr (Plain::NumDimensions == 4) {
      return view(x);
    } else {
      return detail::tensor_rows(x);
    }
  }
}

}  // namespace gqa
