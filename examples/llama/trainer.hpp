// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A training run: steps of AdamW on batches of a text, the learning rate's way, and a state file
// from which a run goes on as if nothing had stopped it. The definitions, and TrainableLlama with
// them, are compiled once for all programs; this header is light.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "llama/checkpoint.hpp"
#include "llama/training_text.hpp"

namespace gqa::examples {

struct TrainingOptions {
  std::int64_t batch = 4;
  std::int64_t context = 256;  ///< tokens of a sequence
  // A run ends after so many steps or so much time, whichever comes first; 0 sets no limit, but one
  // is needed. A run limited by steps alone is the same on every run, bit by bit.
  std::int64_t steps = 0;
  double minutes = 0;
  double learning_rate = 3e-3;
  double final_share = 0.05;   ///< of the learning rate at the end of its cosine; 1: constant
  double warmup_share = 0.03;  ///< of the run, in which the learning rate rises
  double weight_decay = 0.1;   ///< of matrices
  double clip = 1;             ///< norm that all gradients together are scaled down to
  std::uint64_t seed = 1;
};

class Trainer {
 public:
  /// A model of random weights. `threads` may be any number: it changes no bits. The text must
  /// outlive the trainer. Throws std::invalid_argument for options that contradict each other.
  Trainer(const LlamaConfig& config, const TrainingOptions& options, const TrainingText& text,
          int threads);
  /// Goes on from weights that exist, with a new optimizer.
  Trainer(const CheckpointWeights& weights, const TrainingOptions& options,
          const TrainingText& text, int threads);
  /// Goes on from a state file, exactly as the run that wrote it would have. Throws
  /// std::runtime_error, naming the file and the byte, for one that is damaged or of another text.
  Trainer(const std::filesystem::path& state, const TrainingText& text, int threads);
  ~Trainer();
  Trainer(Trainer&&) noexcept;

  /// One step; returns its loss in nats per token. Throws std::runtime_error if that isn't finite.
  double step();
  /// Mean loss in nats per token of the held-out text, or of its first `most_windows` windows; 0:
  /// all. See held_out_windows().
  double held_out_loss(std::int64_t most_windows = 0);

  const LlamaConfig& config() const;
  const TrainingOptions& options() const;
  std::int64_t steps() const;
  double seconds() const;   ///< that steps and held-out losses took, before a resumption, too
  double progress() const;  ///< 0 to 1
  bool finished() const { return progress() >= 1; }
  double smooth_loss() const;  ///< of about the last 50 steps
  /// The largest loss of a step above smooth_loss(), after the learning rate's rise.
  double largest_spike() const;
  std::int64_t num_parameters() const;

  /// The model as it is: spans are valid until the next step.
  CheckpointWeights weights() const;
  /// Everything that a run needs to go on. Throws std::runtime_error; an existing file is then as
  /// it was.
  void save(const std::filesystem::path& state) const;

 private:
  class Run;
  std::unique_ptr<Run> run_;
};

}  // namespace gqa::examples
