// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "llama/training_run.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "support/clock.hpp"

namespace gqa::examples {

std::string read_text(const std::filesystem::path& path) {
  const AlignedBytes bytes = BinaryFile(path).read_rest();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TrainingPreset training_preset(const std::string& name) {
  TrainingPreset preset;
  LlamaConfig& model = preset.model;
  model.num_layers = 4;
  if (name == "small") {  // 418 k parameters; three query heads share a KV head
    model.hidden_size = 96;
    model.intermediate_size = 256;
    model.num_heads = 6;
    model.num_kv_heads = 2;
    preset.training.steps = 14000;
  } else if (name == "shakespeare") {  // 825 k parameters, multi-head
    model.hidden_size = 128;
    model.intermediate_size = 344;
    model.num_heads = 8;
    model.num_kv_heads = 8;
    preset.training.steps = 12000;
  } else {
    throw std::invalid_argument("unknown preset \"" + name + "\"");
  }
  return preset;
}

TrainingProgress::TrainingProgress(std::string label)
    : label_(std::move(label)), terminal_(::isatty(STDERR_FILENO) == 1) {}

TrainingProgress::~TrainingProgress() { clear(); }

void TrainingProgress::clear() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

void TrainingProgress::show(const Trainer& trainer, double share) {
  const auto now = std::chrono::steady_clock::now();
  if (first_step_ < 0) {  // speed is that of this start of the program
    first_step_ = trainer.steps();
    first_share_ = share;
    start_ = last_ = now;
    return;
  }
  if (now - last_ < (terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(30))) return;
  last_ = now;
  const double seconds = seconds_since(start_), done = share - first_share_;
  const TrainingOptions& o = trainer.options();
  const auto tokens = static_cast<double>((trainer.steps() - first_step_) * o.batch * o.context);
  const auto left =
      static_cast<std::int64_t>(done > 0 ? std::min(seconds * (1 - share) / done, 1e6) : 1e6);
  clear();
  std::string bar;
  if (terminal_) {
    constexpr std::size_t width = 30;
    bar.assign(width + 3, ' ');
    bar.front() = '[';
    bar[width + 1] = ']';
    std::fill_n(bar.begin() + 1, static_cast<std::size_t>(width * share), '#');
  }
  std::fprintf(stderr, "%s%s%3.0f %%  step %lld  loss %.4f  %.0f tokens/s  %lld:%02lld left%s",
               label_.c_str(), bar.c_str(), 100 * share, static_cast<long long>(trainer.steps()),
               trainer.smooth_loss(), tokens / seconds, static_cast<long long>(left / 60),
               static_cast<long long>(left % 60), terminal_ ? "" : "\n");
  std::fflush(stderr);
  drawn_ = terminal_;
}

void TrainingProgress::note(const std::string& text) {
  clear();
  std::fprintf(stderr, "%s%s\n", label_.c_str(), text.c_str());
}

void train_to_the_end(Trainer& trainer, const std::filesystem::path& state,
                      const std::string& label) {
  TrainingProgress progress(label);
  auto saved = std::chrono::steady_clock::now();
  double tenth = std::floor(10 * trainer.progress()) + 1;
  while (!trainer.finished()) {
    trainer.step();
    progress.show(trainer, trainer.progress());
    if (is_interrupted() || seconds_since(saved) > 60) {
      trainer.save(state);
      saved = std::chrono::steady_clock::now();
      if (is_interrupted()) {
        throw Interrupted("interrupted at step " + std::to_string(trainer.steps()) +
                          "; the state is in " + state.string());
      }
    }
    if (10 * trainer.progress() < tenth) continue;
    tenth = std::floor(10 * trainer.progress()) + 1;
    char line[160];
    std::snprintf(line, sizeof line, "step %lld, %.0f s: loss %.4f, held out %.4f",
                  static_cast<long long>(trainer.steps()), trainer.seconds(), trainer.smooth_loss(),
                  trainer.held_out_loss(64));
    progress.note(line);
  }
}

}  // namespace gqa::examples
