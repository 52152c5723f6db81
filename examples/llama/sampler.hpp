// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// From a model's logits to its next token, by llama2.c's method and random numbers (xorshift64*):
// the same logits and seed choose the tokens that run.c chooses, but for rounding.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace gqa::examples {

struct SamplerOptions {
  float temperature = 0.0F;  ///< 0 takes the most likely token; 1 samples as the model was trained
  float top_p = 0.9F;      ///< sample among the likeliest tokens of this total probability; 1: all
  std::uint64_t seed = 1;  ///< not 0, from which xorshift never comes back
};

class Sampler {
 public:
  using Token = std::int32_t;

  /// Throws std::invalid_argument if a number is outside of its range.
  explicit Sampler(const SamplerOptions& options) : options_(options), state_(options.seed) {
    if (!(options.temperature >= 0.0F) || !std::isfinite(options.temperature)) {
      throw std::invalid_argument("temperature " + std::to_string(options.temperature) +
                                  " must be 0 or more");
    }
    if (!(options.top_p > 0.0F && options.top_p <= 1.0F)) {
      throw std::invalid_argument("top_p " + std::to_string(options.top_p) +
                                  " must be above 0 and at most 1");
    }
    if (options.seed == 0) throw std::invalid_argument("seed 0: xorshift needs another one");
  }

  /// Chooses the next token from `logits`, [vocab_size]. Throws std::invalid_argument if there are
  /// none or one isn't finite.
  Token sample(std::span<const float> logits) {
    if (logits.empty()) throw std::invalid_argument("no logits to sample from");
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (!std::isfinite(logits[i])) {
        throw std::invalid_argument("logit " + std::to_string(i) + " of " +
                                    std::to_string(logits.size()) + " isn't finite");
      }
    }
    if (options_.temperature == 0.0F) return most_likely(logits);
    softmax(logits);
    const float coin = random();
    return options_.top_p < 1.0F ? sample_top_p(coin) : sample_all(coin);
  }

  /// The largest logit, the first of equals.
  static Token most_likely(std::span<const float> logits) {
    return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }

 private:
  void softmax(std::span<const float> logits) {
    // run.c divides by the temperature first; the difference first cannot overflow.
    const float max = *std::max_element(logits.begin(), logits.end());
    probabilities_.assign(logits.begin(), logits.end());
    float sum = 0.0F;
    for (float& x : probabilities_) {
      x = std::exp((x - max) / options_.temperature);
      sum += x;
    }
    for (float& x : probabilities_) x /= sum;
  }

  Token sample_all(float coin) const {
    float sum = 0.0F;
    for (std::size_t i = 0; i < probabilities_.size(); ++i) {
      sum += probabilities_[i];
      if (coin < sum) return static_cast<Token>(i);
    }
    return static_cast<Token>(probabilities_.size() - 1);  // the sum was rounded to below 1
  }

  /// Nucleus sampling (Holtzman et al. 2019, arXiv 1904.09751).
  Token sample_top_p(float coin) {
    // What is below this cannot be among the likeliest tokens of total probability top_p. For a
    // small top_p even the likeliest may be (run.c then reads beyond its list): keep that one.
    const std::size_t n = probabilities_.size();
    const float likeliest = *std::max_element(probabilities_.begin(), probabilities_.end());
    const float cutoff =
        n > 1 ? std::min(likeliest, (1.0F - options_.top_p) / static_cast<float>(n - 1)) : 0.0F;
    order_.clear();
    for (std::size_t i = 0; i < n; ++i) {
      if (probabilities_[i] >= cutoff) order_.push_back(static_cast<Token>(i));
    }
    std::stable_sort(order_.begin(), order_.end(),
                     [this](Token a, Token b) { return probability(a) > probability(b); });
    float sum = 0.0F;
    std::size_t kept = 0;
    while (kept < order_.size() && !(sum > options_.top_p)) sum += probability(order_[kept++]);

    const float threshold = coin * sum;
    float below = 0.0F;
    for (std::size_t i = 0; i < kept; ++i) {
      below += probability(order_[i]);
      if (threshold < below) return order_[i];
    }
    return order_[kept - 1];  // again the rounding
  }

  float probability(Token token) const { return probabilities_[static_cast<std::size_t>(token)]; }

  /// In [0, 1), 24 bits of it.
  float random() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    const auto bits = static_cast<std::uint32_t>((state_ * 0x2545F4914F6CDD1DULL) >> 32);
    return static_cast<float>(bits >> 8) / 16777216.0F;
  }

  SamplerOptions options_;
  std::uint64_t state_;
  std::vector<float> probabilities_;
  std::vector<Token> order_;
};

}  // namespace gqa::examples
