// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Root-mean-square norm (Zhang, Sennrich 2019, arXiv 1910.07467), which QK-norm applies to each
// head of queries and keys before they are rotated, and Llama-like models apply between layers:
//
//   y = x / sqrt(mean(x²) + eps) * weight
#pragma once

#include <cmath>
#include <span>

#include "gqa/core/scalar.hpp"
#include "gqa/ops/rows.hpp"

namespace gqa {

namespace detail {
inline namespace GQA_ISA {

/// The sum of squares in double, in 8 lanes so that it vectorises without reordering by the
/// compiler.
template <typename T>
double sum_of_squares(const T* x, Index n) {
  constexpr Index lanes = 8;
  double sums[lanes] = {};
  Index i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (Index lane = 0; lane < lanes; ++lane) {
      const auto value = static_cast<double>(static_cast<AccumulatorOf<T>>(x[i + lane]));
      sums[lane] += value * value;
    }
  }
  for (; i < n; ++i) {
    const auto value = static_cast<double>(static_cast<AccumulatorOf<T>>(x[i]));
    sums[i % lanes] += value * value;
  }
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

/// One row; y may be x.
template <typename T, typename Weight>
void normalise_row(const T* x, const Weight* weight, T* y, Index n, double eps) {
  using Real = AccumulatorOf<T>;
  const double mean = sum_of_squares(x, n) / static_cast<double>(n);
  const auto scale = static_cast<Real>(1.0 / std::sqrt(mean + eps));
  if (weight == nullptr) {
    for (Index i = 0; i < n; ++i) y[i] = static_cast<T>(static_cast<Real>(x[i]) * scale);
  } else {
    for (Index i = 0; i < n; ++i) {
      y[i] = static_cast<T>(static_cast<Real>(x[i]) * scale * static_cast<Real>(weight[i]));
    }
  }
}

/// The gradient of one row; dx may be dy. Adds to dweight unless it is null.
template <typename T, typename Weight>
void normalise_row_backward(const T* x, const Weight* weight, const T* dy, T* dx, Weight* dweight,
                            Index n, double eps) {
  // y = s x weight, s = 1 / sqrt(mean(x²) + eps):
  // dx = s (weight dy) - s³ x mean(x weight dy)
  const double mean = sum_of_squares(x, n) / static_cast<double>(n);
  const double s = 1.0 / std::sqrt(mean + eps);
  double dot = 0;
  for (Index i = 0; i < n; ++i) {
    const double w = weight == nullptr ? 1.0 : static_cast<double>(weight[i]);
    dot += static_cast<double>(x[i]) * w * static_cast<double>(dy[i]);
  }
  const double along_x = s * s * s * dot / static_cast<double>(n);
  for (Index i = 0; i < n; ++i) {
    const auto xi = static_cast<double>(x[i]), dyi = static_cast<double>(dy[i]);
    const double w = weight == nullptr ? 1.0 : static_cast<double>(weight[i]);
    if (dweight != nullptr) dweight[i] += static_cast<Weight>(s * xi * dyi);
    dx[i] = static_cast<T>(s * w * dyi - along_x * xi);
  }
}

}  // namespace GQA_ISA
}  // namespace detail

inline namespace GQA_ISA {

/// Normalises each row of x into y of the same shape, which may be x itself: rows of a matrix, of
/// hidden states [batch, tokens, width] (see rows_of), or of each head of [batch, tokens, heads,
/// dim]. weight (span, vector, Eigen vector) has as many elements as a row, or none for all 1.
/// Gemma's checkpoints store the weight less 1. To normalise over several last dimensions, view
/// them as one: a TensorView of shape [1, outer, 1, inner]. Sums are kept in double. Allocates
/// nothing. Throws std::invalid_argument.
template <typename X, typename Weight, typename Y>
void rms_norm(const X& x, const Weight& weight, Y&& y, double eps = 1e-5) {
  const auto from = rows_of(x);
  const auto to = rows_of(y);
  using T = typename decltype(to)::Element;
  static_assert(std::same_as<typename decltype(from)::Value, T>,
                "rms_norm: y must be mutable and of x's scalar type");
  require(from.shape() == to.shape(), "rms_norm: x has shape ", from.shape(), ", y ", to.shape());
  const auto weights = static_cast<Index>(weight.size());
  require(weights == 0 || weights == from.dim(), "rms_norm: the weight has ", weights,
          " elements, rows have ", from.dim());
  for (Index b = 0; b < from.batch(); ++b) {
    for (Index t = 0; t < from.tokens(); ++t) {
      for (Index h = 0; h < from.heads(); ++h) {
        detail::normalise_row(from.row(b, t, h), weights == 0 ? nullptr : weight.data(),
                              to.row(b, t, h), from.dim(), eps);
      }
    }
  }
}

/// The gradient of rms_norm(): dx from dy, all of x's shape (float or double; dx may be dy), and to
/// dweight, of the weight's size, is added that of the weight. An empty weight is all 1, and has an
/// empty dweight. Throws std::invalid_argument before anything is changed.
template <typename X, typename Weight, typename DY, typename DX, typename DWeight>
void rms_norm_backward(const X& x, const Weight& weight, const DY& dy, DX&& dx, DWeight&& dweight,
                       double eps = 1e-5) {
  const auto from = rows_of(x), incoming = rows_of(dy);
  const auto to = rows_of(dx);
  using T = typename decltype(to)::Element;
  static_assert((std::same_as<T, float> ||
                 std::same_as<T, double>)&&std::same_as<typename decltype(from)::Value, T> &&
                    std::same_as<typename decltype(incoming)::Value, T>,
                "rms_norm_backward: x, dy and dx are all float, or all double");
  require(from.shape() == incoming.shape() && from.shape() == to.shape(),
          "rms_norm_backward: x has shape ", from.shape(), ", dy ", incoming.shape(), ", dx ",
          to.shape());
  const auto weights = static_cast<Index>(weight.size());
  require(weights == 0 || weights == from.dim(), "rms_norm_backward: the weight has ", weights,
          " elements, rows have ", from.dim());
  require(static_cast<Index>(dweight.size()) == weights, "rms_norm_backward: dweight has ",
          static_cast<Index>(dweight.size()), " elements, the weight ", weights);
  for (Index b = 0; b < from.batch(); ++b) {
    for (Index t = 0; t < from.tokens(); ++t) {
      for (Index h = 0; h < from.heads(); ++h) {
        detail::normalise_row_backward(from.row(b, t, h), weights == 0 ? nullptr : weight.data(),
                                       incoming.row(b, t, h), to.row(b, t, h),
                                       weights == 0 ? nullptr : dweight.data(), from.dim(), eps);
      }
    }
  }
}

}  // namespace GQA_ISA
}  // namespace gqa
