// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Trains a Llama on a text, by its bytes or with a llama2.c tokenizer, and writes a checkpoint that
// `generate` runs:
//
//   train tinyshakespeare.txt model.bin --preset shakespeare --threads 2
//   generate model.bin model.tokenizer.bin --prompt "ROMEO:" --temperature 0.8
//
// The last tenth of the text is held out to measure the loss on. Ctrl-C keeps the run's state in
// model.bin.state; the same command with --resume goes on from there.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include "llama/training_run.hpp"
#include "support/command_line.hpp"

namespace gqa::examples {
namespace {

struct Options {
  std::string text;
  std::string out;
  std::string tokenizer = "bytes";
  std::string preset = "shakespeare";
  int threads = 1;
  bool resume = false;
};

/// What was given on the command line takes the place of what the preset says.
template <typename T>
void replace(T& value, const T& given) {
  if (given != T(-1)) value = given;
}

/// Options of the preset's; -1 where they were not given.
struct Changes {
  std::int64_t dim = -1, hidden = -1, layers = -1, heads = -1, kv_heads = -1;
  std::int64_t context = -1, batch = -1, steps = -1;
  double learning_rate = -1, minutes = -1, weight_decay = -1;
  std::uint64_t seed = 1;

  void apply(TrainingPreset& preset) const {
    LlamaConfig& model = preset.model;
    TrainingOptions& training = preset.training;
    replace(model.hidden_size, dim);
    if (dim > 0) model.intermediate_size = (dim * 8 / 3 + 7) / 8 * 8;  // Llama's 8/3, rounded up
    replace(model.intermediate_size, hidden);
    replace(model.num_layers, layers);
    replace(model.num_heads, heads);
    replace(model.num_kv_heads, kv_heads);
    replace(training.context, context);
    replace(training.batch, batch);
    replace(training.learning_rate, learning_rate);
    replace(training.weight_decay, weight_decay);
    if (steps > 0 || minutes > 0) {  // either takes the place of the preset's limit
      training.steps = std::max<std::int64_t>(steps, 0);
      training.minutes = std::max(minutes, 0.0);
    }
    training.seed = seed;
  }
};

void run(const Options& options, const Changes& changes) {
  const std::string state = options.out + ".state";
  const bool bytes = options.tokenizer == "bytes";
  const auto byte_tokenizer = std::filesystem::path(options.out).replace_extension("tokenizer.bin");
  for (const std::string& output : {options.out, state}) {
    check_not_input(output, options.text);
    if (!bytes) check_not_input(output, options.tokenizer);
  }
  if (bytes) check_not_input(byte_tokenizer, options.text);
  const std::string raw = read_text(options.text);
  const auto tokenizer = [&] {
    return Tokenizer(options.tokenizer, count_tokens(options.tokenizer));
  };
  const TrainingText text =
      bytes ? TrainingText::of_bytes(raw) : TrainingText::of_tokens(raw, tokenizer());
  std::unique_ptr<Trainer> trainer;
  if (options.resume) {
    trainer = std::make_unique<Trainer>(std::filesystem::path(state), text, options.threads);
    std::cerr << state << ": goes on at step " << trainer->steps() << "\n";
  } else {
    TrainingPreset preset = training_preset(options.preset);
    changes.apply(preset);
    preset.model.vocab_size = text.vocab_size;
    preset.model.max_len = preset.training.context;
    trainer = std::make_unique<Trainer>(preset.model, preset.training, text, options.threads);
  }
  const LlamaConfig& c = trainer->config();
  std::cerr << trainer->num_parameters() << " parameters: " << c.num_layers << " layers of "
            << c.hidden_size << ", " << c.num_heads << " query heads, " << c.num_kv_heads
            << " KV heads; " << text.training.size() << " tokens to learn, " << text.held_out.size()
            << " held out\n";

  catch_interruptions();
  train_to_the_end(*trainer, state, "");
  write_checkpoint(options.out, trainer->weights());
  if (bytes) {
    write_byte_tokenizer(byte_tokenizer);
  }
  const double loss = trainer->held_out_loss();
  const double per_byte = loss * static_cast<double>(text.held_out.size() - 1) /
                          static_cast<double>(text.held_out_bytes - (bytes ? 1 : 0));
  std::printf("held-out loss: %.4f nats per token, %.4f nats per byte\n", loss, per_byte);
  std::printf("steps: %lld of %lld tokens, seconds: %.0f\n",
              static_cast<long long>(trainer->steps()),
              static_cast<long long>(trainer->options().batch * trainer->options().context),
              trainer->seconds());
  std::filesystem::remove(state);
}

int run(int argc, char** argv) {
  Options options;
  Changes changes;
  CLI::App app("Trains a Llama on a text.", "train");
  add_option(app, "TEXT", options.text, "what to learn; the last tenth is held out")->required();
  add_option(app, "OUT", options.out, "the checkpoint to write")->required();
  add_option(app, "--tokenizer", options.tokenizer, "bytes, or a llama2.c tokenizer")
      ->capture_default_str();
  add_option(app, "--preset", options.preset, "shapes and steps to begin with")
      ->check(CLI::IsMember({"small", "shakespeare"}))
      ->capture_default_str();
  const auto positive = [&](const char* name, auto& value, const char* what) {
    add_option(app, name, value, what)->check(CLI::PositiveNumber);
  };
  positive("--dim", changes.dim, "width of the residual stream");
  positive("--hidden", changes.hidden, "width inside of the feed-forward layers; 8/3 of --dim");
  positive("--layers", changes.layers, "of the model");
  positive("--heads", changes.heads, "query heads");
  positive("--kv-heads", changes.kv_heads, "KV heads, which divide the query heads");
  positive("--context", changes.context, "tokens of a sequence");
  positive("--batch", changes.batch, "sequences of a step");
  positive("--lr", changes.learning_rate, "the learning rate's peak");
  add_option(app, "--weight-decay", changes.weight_decay, "of matrices")
      ->check(CLI::NonNegativeNumber);
  positive("--steps", changes.steps, "of the run");
  positive("--minutes", changes.minutes, "of the run; with --steps, whichever ends first");
  add_option(app, "--seed", changes.seed, "of weights and batches");
  add_option(app, "--threads", options.threads, "that a step uses")->check(CLI::Range(1, 1024));
  app.add_flag("--resume", options.resume,
               "go on from OUT.state; shapes and steps are those of its run");
  return run_program(app, argc, argv, [&] { run(options, changes); });
}

}  // namespace
}  // namespace gqa::examples

int main(int argc, char** argv) { return gqa::examples::run(argc, argv); }
