// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What a Llama is made of beside attention, there and back: embedding, SwiGLU, cross-entropy. (The
// library has attention and RMSNorm.) Hidden states are matrices of one row per token; gradients of
// weights are added to, those of activations written. T is float, or double to test against finite
// differences.
#pragma once

#include <cmath>
#include <cstdint>
#include <gqa/gqa.hpp>
#include <span>
#include <vector>

namespace gqa::examples {

template <typename T>
using RowMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

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

  void forward(const RowMatrix<T>& x, RowMatrix<T>& y, Record& record) const {
    record.gate.noalias() = x * gate.transpose();
    record.up.noalias() = x * up.transpose();
    record.inner = record.gate.array() / (1 + (-record.gate.array()).exp()) * record.up.array();
    y.noalias() = record.inner * down.transpose();
  }

  void backward(const RowMatrix<T>& x, const RowMatrix<T>& dy, const Record& record,
                RowMatrix<T>& dx, SwiGlu& gradients) const {
    // y = inner downᵀ
    gradients.down.noalias() += dy.transpose() * record.inner;
    const RowMatrix<T> dinner = dy * down;
    // inner = g s(g) u, with s the sigmoid: s' = s (1 - s)
    const auto g = record.gate.array();
    const RowMatrix<T> s = 1 / (1 + (-g).exp());
    const RowMatrix<T> dup = dinner.array() * g * s.array();
    const RowMatrix<T> dgate =
        dinner.array() * record.up.array() * s.array() * (1 + g * (1 - s.array()));
    // gate = x gateᵀ, up = x upᵀ
    gradients.gate.noalias() += dgate.transpose() * x;
    gradients.up.noalias() += dup.transpose() * x;
    dx.noalias() = dgate * gate;
    dx.noalias() += dup * up;
  }
};

/// The mean over all tokens of -log softmax(logits)[target], in nats, and its gradient in place of
/// the logits [tokens, vocab_size]. Targets of -1 count neither way. Sums are kept in double.
/// Throws std::invalid_argument for other targets outside of the vocabulary; logits are then as
/// they were.
template <typename T>
double cross_entropy(RowMatrix<T>& logits, std::span<const std::int32_t> targets) {
  require(std::ssize(targets) == logits.rows(), "there are ", std::ssize(targets), " targets for ",
          static_cast<Index>(logits.rows()), " rows of logits");
  Index count = 0;
  for (const std::int32_t target : targets) {
    require(target >= -1 && target < logits.cols(), "target ", target,
            " is outside of a vocabulary of ", static_cast<Index>(logits.cols()));
    count += target >= 0;
  }
  double loss = 0;
  for (Index i = 0; i < logits.rows(); ++i) {
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
  return count == 0 ? 0.0 : loss / static_cast<double>(count);
}

}  // namespace gqa::examples
