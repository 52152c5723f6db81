// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// AdamW (Loshchilov, Hutter 2019, arXiv 1711.05101), the learning rate's warm-up and cosine, and
// clipping of gradients by their norm.
#pragma once

#include <cmath>
#include <gqa/core/heads.hpp>
#include <numbers>
#include <span>
#include <vector>

namespace gqa::examples {

/// Rises to `peak` within warmup_steps, then falls as a half cosine to `floor` at total_steps.
struct CosineSchedule {
  double peak = 1e-3;
  double floor = 1e-4;
  Index warmup_steps = 0;
  Index total_steps = 1;

  /// Of step 0, 1, …
  double operator()(Index step) const {
    const auto n = static_cast<double>(step);
    if (step < warmup_steps) return peak * (n + 1) / static_cast<double>(warmup_steps);
    if (step >= total_steps) return floor;
    const double done =
        (n - static_cast<double>(warmup_steps)) / static_cast<double>(total_steps - warmup_steps);
    return floor + (peak - floor) * 0.5 * (1 + std::cos(std::numbers::pi * done));
  }
};

/// The norm of all gradients taken as one vector; above max_norm they are scaled down to it.
inline double clip_gradients(std::span<const std::span<float>> gradients, double max_norm) {
  double squares = 0;
  for (const auto& part : gradients) {
    for (const float x : part) squares += double{x} * double{x};
  }
  const double norm = std::sqrt(squares);
  if (norm > max_norm) {
    const auto factor = static_cast<float>(max_norm / norm);
    for (const auto& part : gradients) {
      for (float& x : part) x *= factor;
    }
  }
  return norm;
}

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
};

/// The state of one parameter: running means of its gradients and of their squares.
class AdamW {
 public:
  /// `weight_decay` of the options counts for matrices; norms and biases are made without.
  AdamW(std::size_t size, const AdamWOptions& options) : options_(options), m_(size), v_(size) {}

  /// One step down the gradients, `learning_rate` large. Throws std::invalid_argument for spans of
  /// another size.
  void step(std::span<float> weights, std::span<const float> gradients, double learning_rate) {
    require(weights.size() == m_.size() && gradients.size() == m_.size(), "AdamW of ", m_.size(),
            " weights was given ", weights.size(), " and ", gradients.size(), " gradients");
    ++steps_;
    const auto& o = options_;
    const auto n = static_cast<double>(steps_);
    // Means of few gradients are too small by 1 - betaⁿ.
    const auto rate = static_cast<float>(learning_rate / (1 - std::pow(o.beta1, n)));
    const auto v_scale = static_cast<float>(1 / std::sqrt(1 - std::pow(o.beta2, n)));
    const auto keep = static_cast<float>(1 - learning_rate * o.weight_decay);
    const auto b1 = static_cast<float>(o.beta1), b2 = static_cast<float>(o.beta2);
    const auto eps = static_cast<float>(o.eps);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const float g = gradients[i];
      m_[i] = b1 * m_[i] + (1 - b1) * g;
      v_[i] = b2 * v_[i] + (1 - b2) * g * g;
      weights[i] = keep * weights[i] - rate * m_[i] / (std::sqrt(v_[i]) * v_scale + eps);
    }
  }

  // What a trainer keeps to go on later.
  Index steps() const { return steps_; }
  void set_steps(Index steps) { steps_ = steps; }
  std::span<float> means() { return m_; }
  std::span<float> squares() { return v_; }

 private:
  AdamWOptions options_;
  std::vector<float> m_, v_;
  Index steps_ = 0;
};

}  // namespace gqa::examples
