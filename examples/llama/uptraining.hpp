// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Fewer KV heads for a trained model, and the training that makes up for them (Ainslie et al. 2023,
// arXiv 2305.13245): convert a checkpoint, then train on for a share alpha of its original steps.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "llama/trainer.hpp"

namespace gqa::examples {

/// What one uptraining begins with.
struct UptrainingStart {
  std::string method;             ///< of conversion; "control" trains the base on as it is
  std::int64_t num_kv_heads = 0;  ///< to convert to; of the base, for the control
  std::uint64_t seed = 1;         ///< of batches and of random heads

  bool is_control() const { return method == "control"; }
};

struct UptrainingOptions {
  std::int64_t original_steps = 0;                    ///< that the base was trained for
  std::vector<double> alphas = {0, 0.01, 0.05, 0.1};  ///< shares of them to evaluate at, rising
  std::int64_t batch = 4;
  std::int64_t context = 256;
  double learning_rate = 3e-4;    ///< constant, but for a short rise of a new optimizer
  std::int64_t calibration = 16;  ///< sequences of training text for aligned and fit
  int threads = 1;
};

struct UptrainingPoint {
  double alpha = 0;
  std::int64_t steps = 0;
  double loss = 0;     ///< held-out, nats per token
  double seconds = 0;  ///< of training up to here, evaluation left out
};

struct UptrainingResult {
  double conversion_seconds = 0;
  double seconds_per_step = 0;          ///< the median
  double decode_seconds = 0;            ///< per token
  double largest_spike = 0;             ///< see Trainer
  std::vector<UptrainingPoint> points;  ///< one per alpha
};

/// One uptraining. `after_step` is called with the trainer and the share of the run that is done,
/// and may throw to end it. Throws std::invalid_argument.
UptrainingResult uptrain(const CheckpointWeights& base, const UptrainingStart& start,
                         const UptrainingOptions& options, const TrainingText& text,
                         const std::function<void(const Trainer&, double)>& after_step);

/// Seconds that a model takes to decode a token, of one sequence up to the model's max_len, in one
/// thread: the best of three runs.
double decode_seconds(const CheckpointWeights& weights);

}  // namespace gqa::examples
