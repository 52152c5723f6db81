// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What the module's tests share: layers with random weights, and an attention layer written from
// the formulas in double, with the weights as a Hugging Face checkpoint has them. It uses nothing
// of the library but get_weight().
#pragma once

#include <complex>
#include <functional>
#include <gqa/gqa.hpp>
#include <random>

#include "support/difference.hpp"

namespace gqa::test {

template <typename T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <typename T>
using Hidden = Eigen::Tensor<T, 3, Eigen::RowMajor>;  // [batch, tokens, width]

template <typename T>
Matrix<T> random_matrix(Index rows, Index cols, unsigned seed, double spread = 1) {
  Matrix<T> matrix(rows, cols);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, spread);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = static_cast<T>(normal(random));
  return matrix;
}

template <typename T>
Hidden<T> random_hidden(Index batch, Index tokens, Index width, unsigned seed = 3) {
  const auto matrix = random_matrix<T>(batch * tokens, width, seed);
  Hidden<T> x(batch, tokens, width);
  std::copy_n(matrix.data(), matrix.size(), x.data());
  return x;
}

/// Random weights, scaled so that activations stay near 1.
template <typename T>
MultiHeadAttention<T> random_layer(const MultiHeadAttentionConfig& config, unsigned seed = 11) {
  MultiHeadAttention<T> layer(config);
  for (const char* name :
       {"q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight", "q_proj.bias",
        "k_proj.bias", "v_proj.bias", "o_proj.bias", "q_norm.weight", "k_norm.weight"}) {
    const auto weight = find_attention_weight(name)->weight;
    if (!layer.weights().has(weight)) continue;
    const auto shape = layer.weights().shape_of(weight);
    const double spread = shape.cols > 1 ? 1 / std::sqrt(static_cast<double>(shape.cols)) : 0.5;
    layer.set_weight(name, random_matrix<T>(shape.rows, shape.cols, seed++, spread));
  }
  return layer;
}

/// A layer in double, from the formulas.
class PlainLayer {
 public:
  using Row = std::vector<double>;
  using Rows = std::vector<Row>;  // [tokens][width]
  /// Does query i, of num_queries, see key j, of num_keys?
  using Visible = std::function<bool(Index i, Index j)>;

  template <typename T>
  explicit PlainLayer(const MultiHeadAttention<T>& layer) : c_(layer.config()) {
    const auto get = [&](const char* name, Index rows, Index cols) {
      Matrix<double> m = Matrix<double>::Zero(rows, cols);
      if (layer.weights().has(find_attention_weight(name)->weight)) layer.get_weight(name, m);
      return m;
    };
    const Index q = c_.num_heads * c_.head_dim, k = c_.num_kv_heads * c_.head_dim;
    const Index v = c_.num_kv_heads * c_.value_dim;
    wq_ = get("q_proj.weight", q, c_.hidden_size);
    wk_ = get("k_proj.weight", k, c_.kv_hidden_size);
    wv_ = get("v_proj.weight", v, c_.kv_hidden_size);
    wo_ = get("o_proj.weight", c_.hidden_size, c_.num_heads * c_.value_dim);
    bq_ = get("q_proj.bias", q, 1);
    bk_ = get("k_proj.bias", k, 1);
    bv_ = get("v_proj.bias", v, 1);
    bo_ = get("o_proj.bias", c_.hidden_size, 1);
    q_norm_ = get("q_norm.weight", c_.head_dim, 1);
    k_norm_ = get("k_norm.weight", c_.head_dim, 1);
  }

  /// y of queries from x and keys and values from memory (x itself in self-attention), one
  /// sequence; token i of x stands at first + i, token j of the memory at j.
  Rows operator()(const Rows& x, const Rows& memory, Index first, const Visible& visible) const {
    Rows y;
    Rows keys, values;
    for (std::size_t j = 0; j < memory.size(); ++j) {
      keys.push_back(project(wk_, bk_, memory[j]));
      values.push_back(project(wv_, bv_, memory[j]));
      prepare(keys.back(), c_.num_kv_heads, k_norm_, static_cast<Index>(j));
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
      Row q = project(wq_, bq_, x[i]);
      prepare(q, c_.num_heads, q_norm_, first + static_cast<Index>(i));
      Row heads(static_cast<std::size_t>(c_.num_heads * c_.value_dim));
      for (Index h = 0; h < c_.num_heads; ++h) {
        attend_one(
            q, keys, values, h, [&](Index j) { return visible(static_cast<Index>(i), j); }, heads);
      }
      y.push_back(project(wo_, bo_, heads));
    }
    return y;
  }

 private:
  static Row project(const Matrix<double>& w, const Matrix<double>& b, const Row& x) {
    Row y(static_cast<std::size_t>(w.rows()));
    for (Index o = 0; o < w.rows(); ++o) {
      double sum = b(o, 0);
      for (Index i = 0; i < w.cols(); ++i) sum += w(o, i) * x[static_cast<std::size_t>(i)];
      y[static_cast<std::size_t>(o)] = sum;
    }
    return y;
  }

  /// Norm and rotation in halves, as Hugging Face's code does them.
  void prepare(Row& row, Index heads, const Matrix<double>& norm, Index position) const {
    for (Index h = 0; h < heads; ++h) {
      double* x = row.data() + h * c_.head_dim;
      if (c_.qk_norm) {
        double sum = 0;
        for (Index i = 0; i < c_.head_dim; ++i) sum += x[i] * x[i];
        const double scale = 1 / std::sqrt(sum / double(c_.head_dim) + c_.qk_norm->eps);
        for (Index i = 0; i < c_.head_dim; ++i) x[i] *= scale * norm(i, 0);
      }
      if (c_.rope) {
        const Index pairs = c_.rope->rotary_dim / 2;
        for (Index i = 0; i < pairs; ++i) {
          const double angle =
              double(position) * std::pow(c_.rope->theta, -double(i) / double(pairs));
          const auto turned = std::complex(x[i], x[i + pairs]) * std::polar(1.0, angle);
          x[i] = turned.real();
          x[i + pairs] = turned.imag();
        }
      }
    }
  }

  template <typename Sees>
  void attend_one(const Row& q, const Rows& keys, const Rows& values, Index h, Sees sees,
                  Row& heads) const {
    const Index kv_head = h / (c_.num_heads / c_.num_kv_heads);
    const double scale = c_.scale.value_or(1 / std::sqrt(double(c_.head_dim)));
    Row out(static_cast<std::size_t>(c_.value_dim));
    double sum = 0;
    for (std::size_t j = 0; j < keys.size(); ++j) {
      if (!sees(static_cast<Index>(j))) continue;
      double score = 0;
      for (Index d = 0; d < c_.head_dim; ++d) {
        score += q[static_cast<std::size_t>(h * c_.head_dim + d)] *
                 keys[j][static_cast<std::size_t>(kv_head * c_.head_dim + d)];
      }
      const double p = std::exp(score * scale);
      sum += p;
      for (Index d = 0; d < c_.value_dim; ++d) {
        out[static_cast<std::size_t>(d)] +=
            p * values[j][static_cast<std::size_t>(kv_head * c_.value_dim + d)];
      }
    }
    for (Index d = 0; d < c_.value_dim; ++d) {
      heads[static_cast<std::size_t>(h * c_.value_dim + d)] =
          sum > 0 ? out[static_cast<std::size_t>(d)] / sum : 0;
    }
  }

  MultiHeadAttentionConfig c_;
  Matrix<double> wq_, wk_, wv_, wo_, bq_, bk_, bv_, bo_, q_norm_, k_norm_;
};

/// Tokens [0, tokens) of one sequence as rows of double.
template <typename T>
PlainLayer::Rows rows_of_sequence(const Hidden<T>& x, Index batch, Index tokens) {
  PlainLayer::Rows rows;
  for (Index t = 0; t < tokens; ++t) {
    auto& row = rows.emplace_back();
    for (Index c = 0; c < x.dimension(2); ++c) row.push_back(static_cast<double>(x(batch, t, c)));
  }
  return rows;
}

/// The largest difference between rows and a sequence's tokens from `first` on.
template <typename T>
double largest_difference(const PlainLayer::Rows& rows, const Hidden<T>& y, Index batch,
                          Index first = 0) {
  double largest = 0;
  for (std::size_t t = 0; t < rows.size(); ++t) {
    for (Index c = 0; c < y.dimension(2); ++c) {
      largest = std::max(largest, difference(rows[t][static_cast<std::size_t>(c)],
                                             y(batch, first + static_cast<Index>(t), c)));
    }
  }
  return largest;
}

inline bool causal(Index i, Index j) { return j <= i; }

}  // namespace gqa::test
