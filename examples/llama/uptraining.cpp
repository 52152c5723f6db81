// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "llama/uptraining.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

#include "llama/convert.hpp"
#include "support/clock.hpp"

namespace gqa::examples {
namespace {

/// A base's weights with the attention of a model that was converted from it.
CheckpointWeights with_attention(CheckpointWeights weights, const Llama& model) {
  using enum AttentionWeight;
  weights.config.num_kv_heads = model.config().num_kv_heads;
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const auto& from = model.layers()[i].attention.weights();
    const auto span = [&](AttentionWeight weight) {
      const auto matrix = from.matrix(weight);
      return std::span<const float>(matrix.data(), static_cast<std::size_t>(matrix.size()));
    };
    CheckpointWeights::Layer& layer = weights.layers[i];
    layer.wq = span(wq);
    layer.wk = span(wk);
    layer.wv = span(wv);
    layer.wo = span(wo);
  }
  return weights;
}

/// Stretches of the training text, never of what is held out.
std::vector<std::vector<Llama::Token>> calibration_text(const UptrainingOptions& options,
                                                        const TrainingText& text,
                                                        std::uint64_t seed) {
  TrainingRandom random(seed);
  std::vector<std::vector<Llama::Token>> result;
  for (std::int64_t i = 0; i < options.calibration; ++i) {
    result.push_back(draw_batch(text, 1, options.context, random).tokens);
  }
  return result;
}

}  // namespace

UptrainingResult uptrain(const CheckpointWeights& base, const UptrainingStart& start,
                         const UptrainingOptions& options, const TrainingText& text,
                         const std::function<void(const Trainer&, double)>& after_step) {
  require(options.original_steps > 0 && !options.alphas.empty() &&
              std::ranges::is_sorted(options.alphas) && options.alphas.front() >= 0,
          "uptraining needs the base's number of steps and rising shares of them");
  UptrainingResult result;
  Llama model(base);
  CheckpointWeights weights = base;
  if (!start.is_control()) {
    const auto begin = std::chrono::steady_clock::now();
    const ConversionMethod method = conversion_method(start.method);
    const bool calibrates = method == ConversionMethod::aligned || method == ConversionMethod::fit;
    convert(model, {.num_kv_heads = start.num_kv_heads, .method = method, .seed = start.seed},
            calibrates ? calibration_text(options, text, start.seed)
                       : std::vector<std::vector<Llama::Token>>());
    weights = with_attention(base, model);
    result.conversion_seconds = seconds_since(begin);
  }
  result.decode_seconds = decode_seconds(weights);

  const auto steps_at = [&](double alpha) {
    return static_cast<std::int64_t>(
        std::llround(alpha * static_cast<double>(options.original_steps)));
  };
  TrainingOptions training;
  training.batch = options.batch;
  training.context = options.context;
  training.steps = std::max<std::int64_t>(steps_at(options.alphas.back()), 1);
  training.learning_rate = options.learning_rate;
  training.final_share = 1;
  training.warmup_share = 0.02;
  training.seed = start.seed;
  Trainer trainer(weights, training, text, options.threads);

  std::vector<double> times;
  double seconds = 0;
  for (const double alpha : options.alphas) {
    while (trainer.steps() < steps_at(alpha)) {
      const auto begin = std::chrono::steady_clock::now();
      trainer.step();
      times.push_back(seconds_since(begin));
      seconds += times.back();
      after_step(trainer, trainer.progress());
    }
    result.points.push_back({alpha, trainer.steps(), trainer.held_out_loss(), seconds});
  }
  result.largest_spike = trainer.largest_spike();
  if (!times.empty()) {
    const auto middle = times.begin() + std::ssize(times) / 2;
    std::nth_element(times.begin(), middle, times.end());
    result.seconds_per_step = *middle;
  }
  return result;
}

double decode_seconds(const CheckpointWeights& weights) {
  const Llama model(weights);
  const Index tokens = model.config().max_len;
  LlamaSession<float> session(model.config(), tokens);
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < 3; ++run) {
    session.truncate(0);
    const auto begin = std::chrono::steady_clock::now();
    for (Index i = 0; i < tokens; ++i) {
      const auto token = static_cast<Llama::Token>(i % model.config().vocab_size);
      model.forward({&token, 1}, session, LogitsOf::last_token);
    }
    best = std::min(best, seconds_since(begin) / static_cast<double>(tokens));
  }
  return best;
}

}  // namespace gqa::examples
