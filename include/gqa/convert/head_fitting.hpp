// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The step after pooling: least squares instead of training. Pooled heads give other outputs than
// the heads they stand for; fit_heads() changes the weights of this one layer so that, on some
// calibration text, the layer gives what it should. No loss, no labels, no learning rate, and no
// other layer: it is the non-linear least-squares problem
//
//   min over wq, wk, wv, wo of  Σ |y - layer(x)|²
//
// solved by Levenberg and Marquardt's method: in each round the layer is replaced by its first
// order (attention_jacobian.hpp) and the linear problem solved by conjugate gradients.
//
// How to convert a model: go through its layers, first to last, with two streams of hidden states,
// the original model's and the converted one's. x is what the converted model gives the layer; y is
// the original layer's output plus the original stream minus the converted one, so that each layer
// also repairs what those before it have lost.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "gqa/convert/attention_jacobian.hpp"

// After the above, which keeps GCC's warnings about its own intrinsics away.
#include <Eigen/Cholesky>

namespace gqa {

struct HeadFitting {
  Index rounds = 8;          ///< linearisations at most
  Index steps = 15;          ///< conjugate gradients in each
  double damping = 0.01;     ///< Marquardt's, to start with; relative to the mean curvature
  double tolerance = 0.002;  ///< stops where a round takes off less than this part of the error
};

/// Σ |y - layer(x)|² / Σ |y|² before and after.
struct HeadFittingReport {
  double error_before = 0;
  double error_after = 0;
  Index rounds = 0;  ///< that made it smaller
};

namespace detail {
inline namespace GQA_ISA {

/// The same weights in coordinates in which the problem is round: inputs without correlation, and
/// all four matrices of the same influence. Conjugate gradients then need some 15 steps where they
/// needed 100 (stories260K).
template <typename T>
class FitCoordinates {
 public:
  using Factor = Eigen::LLT<Eigen::MatrixXd>;

  explicit FitCoordinates(const std::vector<Dense<T>>& x) : inputs_(factor(x)) {}

  /// x L⁻ᵀ, of which the covariance is 1.
  Dense<T> whiten(const Dense<T>& x) const {
    const Eigen::MatrixXd xt = x.transpose().template cast<double>();
    return inputs_.matrixL().solve(xt).transpose().template cast<T>();
  }
  /// W L: for whitened x what W is for x.
  Dense<T> to_whitened(ConstWeightMap<T> w) const {
    const Eigen::MatrixXd l = inputs_.matrixL();
    return (w.template cast<double>() * l).template cast<T>();
  }
  Dense<T> from_whitened(ConstWeightMap<T> w) const {
    const Eigen::MatrixXd wt = w.transpose().template cast<double>();
    return inputs_.matrixU().solve(wt).transpose().eval().template cast<T>();
  }

  /// For one point: the whitening of wo's inputs, and the scales of the parts.
  void set_point(const AttentionJacobian<T>& jacobian, std::size_t sequences) {
    std::vector<Dense<T>> o;
    for (std::size_t s = 0; s < sequences; ++s) o.push_back(jacobian.o(s));
    Index tokens = 0;
    for (const auto& rows : o) tokens += rows.rows();
    const Eigen::MatrixXd l = factor(o).matrixL();
    const auto size = l.rows();
    const Eigen::MatrixXd inverse =
        l.template triangularView<Eigen::Lower>().solve(Eigen::MatrixXd::Identity(size, size));
    outputs_ = (inverse / std::sqrt(static_cast<double>(tokens))).template cast<T>();
    std::mt19937_64 random(1);
    for (std::size_t part = 0; part < 3; ++part) {
      LayerVector<T> probe = jacobian.weights();
      probe.values().setZero();
      auto values = probe.part(part);
      for (Index i = 0; i < values.size(); ++i) values.data()[i] = random() >> 63 ? T(1) : T(-1);
      double sum = 0;
      for (const auto& dy : jacobian.push(probe)) sum += dy.template cast<double>().squaredNorm();
      const double mean = sum / static_cast<double>(values.size());
      scales_[part] = mean > 0 ? static_cast<T>(1 / std::sqrt(mean)) : T(0);
    }
  }

  /// From round coordinates to those of the Jacobian, and the transpose.
  LayerVector<T> stretch(LayerVector<T> d) const {
    scale(d);
    const Dense<T> wo = d.part(3) * outputs_;
    d.part(3) = wo;
    return d;
  }
  LayerVector<T> stretch_transposed(LayerVector<T> d) const {
    scale(d);
    const Dense<T> wo = d.part(3) * outputs_.transpose();
    d.part(3) = wo;
    return d;
  }

 private:
  /// Of the covariance, with a thousandth of its mean on the diagonal: channels that don't vary
  /// must not become infinite.
  static Factor factor(const std::vector<Dense<T>>& x) {
    const Index width = x.front().cols();
    Eigen::MatrixXd covariance = Eigen::MatrixXd::Zero(width, width);
    Index tokens = 0;
    for (const auto& rows : x) {
      const Eigen::MatrixXd wide = rows.template cast<double>();
      covariance.noalias() += wide.transpose() * wide;
      tokens += rows.rows();
    }
    covariance /= static_cast<double>(tokens);
    const double mean = covariance.trace() / static_cast<double>(width);
    covariance.diagonal().array() += mean > 0 ? 1e-3 * mean : 1.0;
    return Factor(covariance);
  }

  void scale(LayerVector<T>& d) const {
    for (std::size_t part = 0; part < 3; ++part) d.part(part) *= scales_[part];
  }

  Factor inputs_;
  Dense<T> outputs_;  // L⁻¹ / sqrt(tokens) of the heads' outputs
  std::array<T, 3> scales_ = {};
};

template <typename T>
double squared_norm(const std::vector<Dense<T>>& rows) {
  double sum = 0;
  for (const auto& part : rows) sum += part.template cast<double>().squaredNorm();
  return sum;
}

/// min |J d - residual|² + damping |z|², d = stretch(z), by conjugate gradients (CGLS: Björck 1996,
/// section 7.4).
template <typename T>
LayerVector<T> solve_damped(const AttentionJacobian<T>& jacobian, const FitCoordinates<T>& c,
                            std::vector<Dense<T>> residual, double damping, Index steps) {
  LayerVector<T> solution = jacobian.weights();
  solution.values().setZero();
  LayerVector<T> gradient = c.stretch_transposed(jacobian.pull(residual));
  LayerVector<T> direction = gradient;
  double size = gradient.values().template cast<double>().squaredNorm();
  const double enough = 1e-10 * size;
  for (Index step = 0; step < steps && size > enough; ++step) {
    const auto change = jacobian.push(c.stretch(direction));
    const double curvature =
        squared_norm(change) + damping * direction.values().template cast<double>().squaredNorm();
    const auto length = static_cast<T>(size / curvature);
    solution.values() += length * direction.values();
    for (std::size_t s = 0; s < residual.size(); ++s) residual[s] -= length * change[s];
    gradient = c.stretch_transposed(jacobian.pull(residual));
    gradient.values() -= static_cast<T>(damping) * solution.values();
    const double before =
        std::exchange(size, gradient.values().template cast<double>().squaredNorm());
    direction.values() = gradient.values() + static_cast<T>(size / before) * direction.values();
  }
  return c.stretch(std::move(solution));
}

template <typename T>
std::vector<Dense<T>> residual_of(const AttentionJacobian<T>& jacobian,
                                  const std::vector<Dense<T>>& y) {
  std::vector<Dense<T>> residual;
  for (std::size_t s = 0; s < y.size(); ++s) residual.push_back(y[s] - jacobian.y(s));
  return residual;
}

/// The sequences of a view [batch, tokens, 1, width], copied.
template <typename T>
std::vector<Dense<T>> sequences_of(const TensorView<const T>& rows) {
  std::vector<Dense<T>> result;
  for (Index b = 0; b < rows.batch(); ++b) {
    Dense<T> sequence(rows.tokens(), rows.dim());
    for (Index t = 0; t < rows.tokens(); ++t) {
      std::copy_n(rows.row(b, t, 0), rows.dim(), sequence.row(t).data());
    }
    result.push_back(std::move(sequence));
  }
  return result;
}

}  // namespace GQA_ISA
}  // namespace detail

inline namespace GQA_ISA {

/// Changes wq, wk, wv and wo of a causal self-attention layer so that it gives y for x, both
/// [batch, tokens, hidden_size], as closely as least squares go. The layer begins as pooled (or
/// aligned and pooled) heads; biases stay. Takes about rounds · steps passes forward and backward
/// over the sequences, and memory for their attention weights, batch · num_heads · tokens² numbers.
/// Calibrate on more tokens than head_dim · num_heads, on text as the model will see it. Throws
/// std::invalid_argument for shapes and for layers with QK-norm, with dynamic rope scaling or for
/// cross-attention; the layer is then as it was.
template <typename T, typename X, typename Y>
HeadFittingReport fit_heads(MultiHeadAttention<T>& layer, const X& x, const Y& y,
                            const HeadFitting& options = {}) {
  const MultiHeadAttentionConfig& config = layer.config();
  const TensorView<const T> x_rows = rows_of(x), y_rows = rows_of(y);
  require(x_rows.heads() == 1 && x_rows.dim() == config.hidden_size, "fit_heads: x is ",
          detail::HiddenShape{x_rows.shape()}, ", hidden_size is ", config.hidden_size);
  require(x_rows.shape() == y_rows.shape(), "fit_heads: x is ", detail::HiddenShape{x_rows.shape()},
          ", y is ", detail::HiddenShape{y_rows.shape()});
  require(x_rows.batch() > 0 && x_rows.tokens() > 0, "fit_heads: no tokens to calibrate on");
  require(config.hidden_size == config.kv_hidden_size && !config.qk_norm,
          "fit_heads: layers for cross-attention or with QK-norm are not supported");
  require(options.rounds >= 0 && options.steps >= 0 && options.damping > 0, "fit_heads: rounds ",
          options.rounds, ", steps ", options.steps, ", damping ", options.damping);
  std::optional<RopeTable<T>> rope;
  if (config.rope) {
    require(!std::holds_alternative<DynamicNtkRopeScaling>(config.rope->scaling),
            "fit_heads: dynamic rope scaling is not supported");
    rope.emplace(*config.rope, config.head_dim, x_rows.tokens());
  }

  auto inputs = detail::sequences_of(x_rows);
  const auto targets = detail::sequences_of(y_rows);
  detail::FitCoordinates<T> coordinates(inputs);
  for (auto& rows : inputs) rows = coordinates.whiten(rows);

  detail::LayerVector<T> start(config);
  start.part(0) =
      coordinates.to_whitened(std::as_const(layer).weights().matrix(AttentionWeight::wq));
  start.part(1) =
      coordinates.to_whitened(std::as_const(layer).weights().matrix(AttentionWeight::wk));
  start.part(2) =
      coordinates.to_whitened(std::as_const(layer).weights().matrix(AttentionWeight::wv));
  start.part(3) = std::as_const(layer).weights().matrix(AttentionWeight::wo);

  const auto linearise = [&](detail::LayerVector<T> weights) {
    return detail::AttentionJacobian<T>(layer, rope ? &*rope : nullptr, inputs, std::move(weights));
  };
  auto best = std::make_unique<detail::AttentionJacobian<T>>(linearise(std::move(start)));
  auto residual = detail::residual_of(*best, targets);
  double target_size = detail::squared_norm(targets);
  if (!(target_size > 0)) target_size = 1;  // of outputs that should be 0, the error itself
  double error = detail::squared_norm(residual);
  HeadFittingReport report{.error_before = error / target_size};

  double damping = options.damping;
  for (Index round = 0; round < options.rounds && error > 0; ++round) {
    coordinates.set_point(*best, inputs.size());
    const auto change = detail::solve_damped(*best, coordinates, residual, damping, options.steps);
    const double before = error;
    for (const double length : {1.0, 0.5, 0.25, 0.125}) {
      auto weights = best->weights();
      weights.values() += static_cast<T>(length) * change.values();
      auto trial = std::make_unique<detail::AttentionJacobian<T>>(linearise(std::move(weights)));
      auto left = detail::residual_of(*trial, targets);
      const double trial_error = detail::squared_norm(left);
      if (!(trial_error < error)) continue;
      best = std::move(trial);
      residual = std::move(left);
      error = trial_error;
      damping = length == 1.0 ? (std::max)(damping / 3, 1e-4) : damping * 3;
      ++report.rounds;
      break;
    }
    if (error == before) {
      damping *= 10;
    } else if (error > (1 - options.tolerance) * before) {
      break;
    }
  }
  if (report.rounds > 0) {
    const auto& fitted = best->weights();
    layer.wq() = coordinates.from_whitened(fitted.part(0));
    layer.wk() = coordinates.from_whitened(fitted.part(1));
    layer.wv() = coordinates.from_whitened(fitted.part(2));
    layer.wo() = fitted.part(3);
  }
  report.error_after = error / target_size;
  return report;
}

}  // namespace GQA_ISA
}  // namespace gqa
