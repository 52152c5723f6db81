// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What programs that train have around a Trainer: models by name, texts from files, a bar on
// stderr, and an end that Ctrl-C may bring at any step.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "llama/trainer.hpp"
#include "support/signals.hpp"

namespace gqa::examples {

/// A run was interrupted; what() says where it stands.
struct Interrupted : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The whole file. Throws std::runtime_error.
std::string read_text(const std::filesystem::path& path);

struct TrainingPreset {
  LlamaConfig model;  ///< but for vocab_size and max_len, which are the text's and the options'
  TrainingOptions training;
};
/// "small" or "shakespeare". Throws std::invalid_argument for other names.
TrainingPreset training_preset(const std::string& name);

/// How a run goes: a bar on a terminal, now and then a line elsewhere.
class TrainingProgress {
 public:
  /// `label` stands in front of each line.
  explicit TrainingProgress(std::string label);
  ~TrainingProgress();
  /// After each step. `share` of the run is done.
  void show(const Trainer& trainer, double share);
  /// A line that stays.
  void note(const std::string& text);

 private:
  void clear();

  std::string label_;
  bool terminal_;
  bool drawn_ = false;
  std::int64_t first_step_ = -1;
  double first_share_ = 0;
  std::chrono::steady_clock::time_point start_, last_;
};

/// Steps until the run is finished, with a note of the held-out loss at each tenth of it. The state
/// is saved every minute; if the run is interrupted (signals.hpp), too, before Interrupted is
/// thrown.
void train_to_the_end(Trainer& trainer, const std::filesystem::path& state,
                      const std::string& label);

}  // namespace gqa::examples
