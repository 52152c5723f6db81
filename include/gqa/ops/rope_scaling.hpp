// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What a model's configuration says about rotary embedding: which channels form a pair, how fast
// each pair turns, and how the frequencies are stretched for contexts longer than those of the
// training. Field names are those of "rope_scaling" in a Hugging Face config.json. rope.hpp applies
// it.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <span>
#include <variant>

#include "gqa/core/config.hpp"

namespace gqa {

/// Which channels are a pair, see rope.hpp.
enum class RopeStyle { interleaved, rotate_half };

/// "default": w_i as above.
struct NoRopeScaling {};

/// "linear": positions divided by factor (Chen et al. 2023, arXiv 2306.15595).
struct LinearRopeScaling {
  double factor = 1;
};

/// "dynamic": theta grows with the length once a sequence is longer than max_position_embeddings.
/// The length is that of the sequence in the call at hand; keys that a cache holds keep the
/// rotation of the call that wrote them, as in Hugging Face's code.
struct DynamicNtkRopeScaling {
  double factor = 1;
  Index max_position_embeddings = 2048;
};

/// "yarn": slow pairs are interpolated, fast ones kept, with a ramp between; cos and sin are
/// multiplied by attention_factor (Peng et al. 2023, arXiv 2309.00071).
struct YarnRopeScaling {
  double factor = 1;
  Index original_max_position_embeddings = 2048;
  double beta_fast = 32;
  double beta_slow = 1;
  std::optional<double> attention_factor = {};  ///< default: from mscale and mscale_all_dim
  std::optional<double> mscale = {};            ///< these two only count together (DeepSeek);
  std::optional<double> mscale_all_dim = {};    ///< else the factor is 0.1 ln(factor) + 1
  bool truncate = true;                         ///< round the ramp's ends outwards
};

/// "llama3": wavelengths above original / low_freq_factor are stretched by factor, those below
/// original / high_freq_factor kept, with a ramp between.
struct Llama3RopeScaling {
  double factor = 8;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  Index original_max_position_embeddings = 8192;
};

using RopeScaling = std::variant<NoRopeScaling, LinearRopeScaling, DynamicNtkRopeScaling,
                                 YarnRopeScaling, Llama3RopeScaling>;

struct RopeConfig {
  double theta = 10000;  ///< "rope_theta"
  Index rotary_dim = 0;  ///< even, at most head_dim; 0 is all of head_dim
  RopeStyle style = RopeStyle::rotate_half;
  RopeScaling scaling = NoRopeScaling{};
};

namespace detail {

/// w_i of YaRN, for all pairs.
GQA_TAG inline void yarn_frequencies(const YarnRopeScaling& yarn, double theta,
                                     std::span<double> w) {
  const double pairs = static_cast<double>(w.size());
  const double dim = 2 * pairs;
  // The (fractional) pair that makes `rotations` full turns within the original context.
  const auto pair_of = [&](double rotations) {
    return dim *
           std::log(static_cast<double>(yarn.original_max_position_embeddings) /
                    (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(theta));
  };
  double low = pair_of(yarn.beta_fast);
  double high = pair_of(yarn.beta_slow);
  if (yarn.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = (std::max)(low, 0.0);
  high = (std::min)(high, dim - 1);
  if (low == high) high += 0.001;  // a ramp without length is a step
  for (std::size_t i = 0; i < w.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    w[i] = w[i] / yarn.factor * ramp + w[i] * (1 - ramp);
  }
}

GQA_TAG inline double yarn_attention_factor(const YarnRopeScaling& yarn) {
  const auto mscale = [&](double m) {
    return yarn.factor <= 1 ? 1.0 : 0.1 * m * std::log(yarn.factor) + 1.0;
  };
  if (yarn.attention_factor) return *yarn.attention_factor;
  if (yarn.mscale.value_or(0) != 0 && yarn.mscale_all_dim.value_or(0) != 0) {
    return mscale(*yarn.mscale) / mscale(*yarn.mscale_all_dim);
  }
  return mscale(1);
}

GQA_TAG inline void llama3_frequencies(const Llama3RopeScaling& llama3, std::span<double> w) {
  const auto original = static_cast<double>(llama3.original_max_position_embeddings);
  for (double& frequency : w) {
    const double turns = original * frequency / (2 * std::numbers::pi);
    const double keep = std::clamp(
        (turns - llama3.low_freq_factor) / (llama3.high_freq_factor - llama3.low_freq_factor), 0.0,
        1.0);
    frequency = (1 - keep) * frequency / llama3.factor + keep * frequency;
  }
}

}  // namespace detail

}  // namespace gqa
