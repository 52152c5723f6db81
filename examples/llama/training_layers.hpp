// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What a Llama is made of beside attention, there and back: embedding, SwiGLU, cross-entropy. (The
// library has attention and RMSNorm.) Hidden states are matrices of one row per token; gradients of
// weights are added to, those of activations written. T is float, or double to test against finite
// differences.
//
// Work is cut into stretches of rows, of tokens or of a weight, whatever the number of threads:
// results are the same bits with any executor.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <gqa/gqa.hpp>
#include <span>
#include <vector>

namespace gqa::examples {

template <typename T>
using RowMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A stretch of tokens: 256 rows of 344 floats and the weights they meet stay in an L2 of 1 MiB.
inline constexpr Index stretch_tokens = 256;
/// Rows of a weight's gradient, each a sum over all tokens: smaller, as there are few of them.
inline constexpr Index stretch_weights = 64;

inline Index count_stretches(Index rows, Index size) { return (rows + size - 1) / size; }

/// Calls fn(begin, count) for each stretch of `size` rows of `rows`, side by side. Eigen's products
/// allocate: without memory, the program ends.
template <typename E, typename F>
void for_each_stretch(E& executor, Index rows, Index size, F fn) {
  executor.run(count_stretches(rows, size), [&](Index task, Index) noexcept {
    fn(task * size, std::min(size, rows - task * size));
  });
}

/// dw += dyᵀ x: the gradient of y = x wᵀ, w [out, in].
template <typename T, typename E>
void add_weight_gradient(const RowMatrix<T>& dy, const RowMatrix<T>& x, RowMatrix<T>& dw,
                         E& executor) {
  for_each_stretch(executor, dw.rows(), stretch_weights, [&](Index begin, Index count) {
    dw.middleRows(begin, count).noalias() += dy.middleCols(begin, count).transpose() * x;
  });
}

/// x = the tokens' rows of the embedding [vocab_size, hidden_size]. Throws std::invalid_argument
/// for a token outside of the vocabulary; x is then as it was.
template <typename T>
void embed(std::span<const std::int32_t> tokens, const RowMatrix<T>& embedding, RowMatrix<T>& x) {
  for (const std::int32_t token : tokens) {
    require(token >= 0 && token < embedding.rows(), "token ", token,
            " is outside of a vocabulary of ", embedding.rows());
  }
  x.resize(std::ssize(tokens), embedding.cols());
  for (Index i = 0; i < x.rows(); ++i)
    x.row(i) = embedding.row(tokens[static_cast<std::size_t>(i)]);
}

/// dembedding += the gradients of its rows.
template <typename T>
void embed_backward(std::span<const std::int32_t> tokens, const RowMatrix<T>& dx,
                    RowMatrix<T>& dembedding) {
  for (Index i = 0; i < dx.rows(); ++i) {
    dembedding.row(tokens[static_cast<std::size_t>(i)]) += dx.row(i);
  }
}

/// down(silu(gate(x)) * up(x)), silu(g) = g / (1 + e^-g) (Shazeer 2020, arXiv 2002.05202).
template <typename T>
struct SwiGlu {
  RowMatrix<T> gate;  // [intermediate_size, hidden_size]
  RowMatrix<T> up;    // [intermediate_size, hidden_size]
  RowMatrix<T> down;  // [hidden_size, intermediate_size]

  SwiGlu(Index hidden_size, Index intermediate_size)
      : gate(RowMatrix<T>::Zero(intermediate_size, hidden_size)),
        up(gate),
        down(RowMatrix<T>::Zero(hidden_size, intermediate_size)) {}

  /// What the way back needs: gate(x), up(x) and their product, [tokens, intermediate_size].
  struct Record {
    RowMatrix<T> gate, up, inner;
  };

  template <Executor E = Serial>
  void forward(const RowMatrix<T>& x, RowMatrix<T>& y, Record& record, E executor = {}) const {
    for (RowMatrix<T>* inside : {&record.gate, &record.up, &record.inner}) {
      inside->resize(x.rows(), gate.rows());
    }
    y.resize(x.rows(), x.cols());
    for_each_stretch(executor, x.rows(), stretch_tokens, [&](Index begin, Index count) {
      const auto rows = [&](auto& of) { return of.middleRows(begin, count); };
      rows(record.gate).noalias() = rows(x) * gate.transpose();
      rows(record.up).noalias() = rows(x) * up.transpose();
      const auto g = rows(record.gate).array();
      rows(record.inner) = g / (1 + (-g).exp()) * rows(record.up).array();
      rows(y).noalias() = rows(record.inner) * down.transpose();
    });
  }

  /// In the record, gate and up give way to their gradients.
  template <Executor E = Serial>
  void backward(const RowMatrix<T>& x, const RowMatrix<T>& dy, Record& record, RowMatrix<T>& dx,
                SwiGlu& gradients, E executor = {}) const {
    dx.resize(x.rows(), x.cols());
    for_each_stretch(executor, x.rows(), stretch_tokens, [&](Index begin, Index count) {
      const auto rows = [&](auto& of) { return of.middleRows(begin, count); };
      // y = inner downᵀ
      const RowMatrix<T> dinner = rows(dy) * down;
      // inner = g s(g) u, with s the sigmoid: s' = s (1 - s)
      auto g = rows(record.gate), u = rows(record.up);
      const RowMatrix<T> s = 1 / (1 + (-g.array()).exp());
      const RowMatrix<T> dgate =
          dinner.array() * u.array() * s.array() * (1 + g.array() * (1 - s.array()));
      u = dinner.array() * g.array() * s.array();
      g = dgate;
      // gate = x gateᵀ, up = x upᵀ
      rows(dx).noalias() = g * gate;
      rows(dx).noalias() += u * up;
    });
    add_weight_gradient(dy, record.inner, gradients.down, executor);
    add_weight_gradient(record.gate, x, gradients.gate, executor);
    add_weight_gradient(record.up, x, gradients.up, executor);
  }
};

/// The mean over all tokens of -log softmax(logits)[target], in nats, and its gradient in place of
/// the logits [tokens, vocab_size]. Targets of -1 count neither way. Sums are kept in double.
/// Throws std::invalid_argument for other targets outside of the vocabulary; logits are then as
/// they were.
template <typename T, Executor E = Serial>
double cross_entropy(RowMatrix<T>& logits, std::span<const std::int32_t> targets, E executor = {}) {
  require(std::ssize(targets) == logits.rows(), "there are ", std::ssize(targets), " targets for ",
          static_cast<Index>(logits.rows()), " rows of logits");
  Index count = 0;
  for (const std::int32_t target : targets) {
    require(target >= -1 && target < logits.cols(), "target ", target,
            " is outside of a vocabulary of ", static_cast<Index>(logits.cols()));
    count += target >= 0;
  }
  // One sum per stretch, added up in order.
  std::vector<double> losses(
      static_cast<std::size_t>(count_stretches(logits.rows(), stretch_tokens)));
  for_each_stretch(executor, logits.rows(), stretch_tokens, [&](Index begin, Index rows) {
    double& loss = losses[static_cast<std::size_t>(begin / stretch_tokens)];
    for (Index i = begin; i < begin + rows; ++i) {
      auto row = logits.row(i);
      const std::int32_t target = targets[static_cast<std::size_t>(i)];
      if (target < 0) {
        row.setZero();
        continue;
      }
      const T max = row.maxCoeff();
      const double target_logit = static_cast<double>(row(target)) - static_cast<double>(max);
      row = (row.array() - max).exp();
      const double sum = row.template cast<double>().sum();
      loss += std::log(sum) - target_logit;
      row *= static_cast<T>(1 / (sum * static_cast<double>(count)));
      row(target) -= static_cast<T>(1 / static_cast<double>(count));
    }
  });
  double sum = 0;
  for (const double loss : losses) sum += loss;
  return count == 0 ? 0.0 : sum / static_cast<double>(count);
}

}  // namespace gqa::examples
