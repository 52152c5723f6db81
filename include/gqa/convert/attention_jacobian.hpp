// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// An attention layer to first order in its weights: what y changes by when wq, wk, wv and wo do
// (push), and the same matrix transposed (pull). head_fitting.hpp solves least squares with it. The
// Jacobian itself, tokens x hidden_size rows of all weights, is never there; both products cost
// about what a pass through the layer does:
//
//   forward  q = R x wqᵀ, k = R x wkᵀ, v = x wvᵀ; P = softmax(q kᵀ); o = P v; y = o woᵀ
//   push     dS = dq kᵀ + q dkᵀ; do = (P∘dS) v - rowsum(P∘dS)∘o + P dv; dy = do woᵀ + o dwoᵀ
//   pull     do = dy wo; dS = P∘(do vᵀ - rowsum(do∘o)); dq = dS k; dk = dSᵀ q; dv = Pᵀ do
//
// R is the rotation of rope; the softmax scale is in q. Whole sequences, causal.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "gqa/module/multi_head_attention.hpp"

namespace gqa::detail {

template <typename T>
using Dense = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

inline namespace GQA_ISA {

/// The four matrices of a layer in one vector, so that solvers see a vector.
template <typename T>
class LayerVector {
 public:
  using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

  explicit LayerVector(const MultiHeadAttentionConfig& c)
      : shapes_{std::pair{c.query_width(), c.hidden_size},
                {c.key_width(), c.hidden_size},
                {c.value_width(), c.hidden_size},
                {c.hidden_size, c.attention_width()}} {
    Index size = 0;
    for (const auto& [rows, cols] : shapes_) size += rows * cols;
    values_ = Vector::Zero(size);
  }

  Vector& values() { return values_; }
  const Vector& values() const { return values_; }

  /// 0 … 3: wq [query_width, hidden_size], wk, wv, wo [hidden_size, attention_width].
  WeightMap<T> part(std::size_t i) {
    return {values_.data() + begin(i), shapes_[i].first, shapes_[i].second};
  }
  ConstWeightMap<T> part(std::size_t i) const {
    return {values_.data() + begin(i), shapes_[i].first, shapes_[i].second};
  }

 private:
  Index begin(std::size_t i) const {
    Index at = 0;
    for (std::size_t j = 0; j < i; ++j) at += shapes_[j].first * shapes_[j].second;
    return at;
  }

  std::array<std::pair<Index, Index>, 4> shapes_;
  Vector values_;
};

/// A layer at one point of its weights, on some sequences.
template <typename T>
class AttentionJacobian {
 public:
  /// x: [tokens, hidden_size] of each sequence, which must outlive this. `weights` are for these x
  /// (head_fitting.hpp changes both to other coordinates); the biases are the layer's.
  AttentionJacobian(const MultiHeadAttention<T>& layer, const RopeTable<T>* rope,
                    const std::vector<Dense<T>>& x, LayerVector<T> weights)
      : config_(layer.config()), rope_(rope), x_(x), weights_(std::move(weights)) {
    const AttentionWeights<T>& own = layer.weights();
    sequences_.resize(x.size());
    for (std::size_t s = 0; s < x.size(); ++s) {
      Sequence& at = sequences_[s];
      at.q = project(x[s], 0, own, AttentionWeight::bq);
      at.k = project(x[s], 1, own, AttentionWeight::bk);
      at.v = project(x[s], 2, own, AttentionWeight::bv);
      rotate(at.q, config_.num_heads, false);
      rotate(at.k, config_.num_kv_heads, false);
      at.q *= scale();
      attend(at);
      at.y = at.o * weights_.part(3).transpose();
      if (own.has(AttentionWeight::bo)) {
        at.y.rowwise() += own.vector(AttentionWeight::bo).transpose();
      }
    }
  }

  const LayerVector<T>& weights() const { return weights_; }
  /// What the layer makes of sequence s, [tokens, hidden_size].
  const Dense<T>& y(std::size_t s) const { return sequences_[s].y; }
  /// The heads' outputs, [tokens, attention_width].
  const Dense<T>& o(std::size_t s) const { return sequences_[s].o; }

  /// J d: what y changes by, to first order, when the weights change by d.
  std::vector<Dense<T>> push(const LayerVector<T>& d) const {
    std::vector<Dense<T>> result(x_.size());
    for (std::size_t s = 0; s < x_.size(); ++s) {
      const Sequence& at = sequences_[s];
      Dense<T> dq = x_[s] * d.part(0).transpose();
      Dense<T> dk = x_[s] * d.part(1).transpose();
      const Dense<T> dv = x_[s] * d.part(2).transpose();
      rotate(dq, config_.num_heads, false);
      rotate(dk, config_.num_kv_heads, false);
      dq *= scale();
      Dense<T> heads(at.o.rows(), at.o.cols());
      for_each_block(at, [&](const Block& b) {
        const auto p = b.p(at);
        // P∘dS
        ds_.noalias() = b.q(dq) * b.k(at.k).transpose();
        ds_.noalias() += b.q(at.q) * b.k(dk).transpose();
        ds_.array() *= p.array();
        sums_ = ds_.rowwise().sum();
        auto out = b.o(heads);
        out.noalias() = ds_ * b.v(at.v);
        out.noalias() += p * b.v(dv);
        out.noalias() -= sums_.asDiagonal() * b.o(at.o);
      });
      result[s].noalias() = heads * weights_.part(3).transpose();
      result[s].noalias() += at.o * d.part(3).transpose();
    }
    return result;
  }

  /// Jᵀ dy, dy as push() returns it.
  LayerVector<T> pull(const std::vector<Dense<T>>& dy) const {
    LayerVector<T> d(config_);
    for (std::size_t s = 0; s < x_.size(); ++s) {
      const Sequence& at = sequences_[s];
      d.part(3).noalias() += dy[s].transpose() * at.o;
      const Dense<T> heads = dy[s] * weights_.part(3);
      Dense<T> dq = Dense<T>::Zero(at.q.rows(), at.q.cols());
      Dense<T> dk = Dense<T>::Zero(at.k.rows(), at.k.cols());
      Dense<T> dv = Dense<T>::Zero(at.v.rows(), at.v.cols());
      for_each_block(at, [&](const Block& b) {
        const auto p = b.p(at);
        ds_.noalias() = b.o(heads) * b.v(at.v).transpose();
        sums_ = b.o(heads).cwiseProduct(b.o(at.o)).rowwise().sum();
        ds_.colwise() -= sums_;
        ds_.array() *= p.array();
        b.q(dq).noalias() = ds_ * b.k(at.k);
        b.k(dk).noalias() += ds_.transpose() * b.q(at.q);
        b.v(dv).noalias() += p.transpose() * b.o(heads);
      });
      dq *= scale();
      rotate(dq, config_.num_heads, true);
      rotate(dk, config_.num_kv_heads, true);
      d.part(0).noalias() += dq.transpose() * x_[s];
      d.part(1).noalias() += dk.transpose() * x_[s];
      d.part(2).noalias() += dv.transpose() * x_[s];
    }
    return d;
  }

 private:
  using Column = Eigen::Matrix<T, Eigen::Dynamic, 1>;

  struct Sequence {
    Dense<T> q;  // [tokens, query_width], rotated, times the scale
    Dense<T> k;  // [tokens, key_width], rotated
    Dense<T> v;  // [tokens, value_width]
    Dense<T> p;  // [num_heads * tokens, tokens], 0 above each head's diagonal
    Dense<T> o;  // [tokens, attention_width]
    Dense<T> y;  // [tokens, hidden_size]
  };

  /// Queries [first, first + rows) of one head, and the keys they see: the rest is skipped.
  struct Block {
    static constexpr Index size = 64;
    Index first, rows, tokens, head, kv_head, head_dim, value_dim;

    Index keys() const { return first + rows; }
    template <typename M>
    auto q(M& m) const {
      return m.block(first, head * head_dim, rows, head_dim);
    }
    template <typename M>
    auto k(M& m) const {
      return m.block(0, kv_head * head_dim, keys(), head_dim);
    }
    template <typename M>
    auto v(M& m) const {
      return m.block(0, kv_head * value_dim, keys(), value_dim);
    }
    template <typename M>
    auto o(M& m) const {
      return m.block(first, head * value_dim, rows, value_dim);
    }
    template <typename S>
    auto p(S& at) const {
      return at.p.block(head * tokens + first, 0, rows, keys());
    }
  };

  template <typename F>
  void for_each_block(const Sequence& at, F fn) const {
    const Index tokens = at.q.rows(), group = config_.num_heads / config_.num_kv_heads;
    for (Index head = 0; head < config_.num_heads; ++head) {
      for (Index first = 0; first < tokens; first += Block::size) {
        fn(Block{first, (std::min)(Block::size, tokens - first), tokens, head, head / group,
                 config_.head_dim, config_.value_dim});
      }
    }
  }

  T scale() const {
    const double standard = 1 / std::sqrt(static_cast<double>(config_.head_dim));
    return static_cast<T>(config_.scale.value_or(standard));
  }

  Dense<T> project(const Dense<T>& x, std::size_t part, const AttentionWeights<T>& own,
                   AttentionWeight bias) const {
    Dense<T> result = x * weights_.part(part).transpose();
    if (own.has(bias)) result.rowwise() += own.vector(bias).transpose();
    return result;
  }

  /// P = softmax(S) and o = P v.
  void attend(Sequence& at) {
    const Index tokens = at.q.rows();
    at.p = Dense<T>::Zero(config_.num_heads * tokens, tokens);
    at.o.resize(tokens, config_.attention_width());
    for_each_block(at, [&](const Block& b) {
      ds_.noalias() = b.q(at.q) * b.k(at.k).transpose();
      for (Index i = 0; i < b.rows; ++i) {
        const Index seen = b.first + i + 1;
        auto scores = ds_.row(i).head(seen);
        scores.array() = (scores.array() - scores.maxCoeff()).exp();
        b.p(at).row(i).head(seen) = scores / scores.sum();
      }
      b.o(at.o).noalias() = b.p(at) * b.v(at.v);
    });
  }

  /// Turns heads to their positions, or back, which is the transpose.
  void rotate(Dense<T>& rows, Index heads, bool back) const {
    if (!rope_) return;
    std::vector<Index> positions(static_cast<std::size_t>(rows.rows()));
    for (std::size_t i = 0; i < positions.size(); ++i) {
      positions[i] = back ? -static_cast<Index>(i) : static_cast<Index>(i);
    }
    apply_rope(*rope_, TensorView<T>(rows.data(), {1, rows.rows(), heads, config_.head_dim}),
               RopePositions::each(positions, rows.rows()));
  }

  MultiHeadAttentionConfig config_;
  const RopeTable<T>* rope_;
  const std::vector<Dense<T>>& x_;
  LayerVector<T> weights_;
  std::vector<Sequence> sequences_;
  mutable Dense<T> ds_;  // scratch of one block
  mutable Column sums_;
};

}  // namespace GQA_ISA
}  // namespace gqa::detail
