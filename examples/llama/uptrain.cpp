// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The recipe of grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245) from end to end:
//
//   uptrain tinyshakespeare.txt runs --steps 5000 --seeds 1,2,3 --threads 2
//   python3 plot.py runs
//
// trains a multi-head base for each seed (or takes --base), converts it to fewer KV heads by each
// method, trains each result on at a constant learning rate, and measures the held-out loss at
// shares alpha of the base's steps, beside the control: the base trained on for the same steps.
// What is finished is kept in the folder: the same command again goes on where an earlier one
// stopped.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llama/training_run.hpp"
#include "llama/uptraining.hpp"
#include "support/command_line.hpp"
#include "support/json.hpp"

namespace gqa::examples {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

struct Options {
  std::string text;
  std::string folder;
  std::string base;
  std::vector<std::string> methods = {"mean", "first", "random", "aligned", "fit"};
  std::vector<std::int64_t> num_kv_heads = {4, 2, 1};
  std::vector<std::uint64_t> seeds = {1};
  std::int64_t steps = 0;
  std::int64_t dim = 128, layers = 4, heads = 8;
  UptrainingOptions uptraining;
};

void write_json(const fs::path& path, const json& value) {
  FileWriter file;
  file.put(value.dump(2) + "\n");
  file.write(path);
}

/// What all runs in a folder have in common. Throws std::runtime_error if an earlier start of the
/// program had other settings.
void check_settings(const Options& options, const TrainingText& text) {
  const UptrainingOptions& u = options.uptraining;
  const json settings = {{"base", options.base},
                         {"steps", options.steps},
                         {"dim", options.dim},
                         {"layers", options.layers},
                         {"heads", options.heads},
                         {"batch", u.batch},
                         {"context", u.context},
                         {"alphas", u.alphas},
                         {"learning_rate", u.learning_rate},
                         {"calibration", u.calibration},
                         {"text", text.fingerprint()}};
  const fs::path path = fs::path(options.folder) / "settings.json";
  fs::create_directories(options.folder);
  if (!fs::exists(path)) return write_json(path, settings);
  const json before(read_json(path));
  for (const auto& [name, value] : settings.items()) {
    if (!before.contains(name) || before[name] != value) {
      throw std::runtime_error(path.string() + ": the runs there have " + name + " " +
                               (before.contains(name) ? before[name].dump() : "unset") + ", not " +
                               value.dump() + "; use another folder");
    }
  }
}

/// The base of a seed: trained here unless it was given or is there already.
Checkpoint base_of(const Options& options, const TrainingText& text, std::uint64_t seed,
                   const fs::path& folder) {
  if (!options.base.empty()) return Checkpoint(options.base);
  const fs::path path = folder / "base.bin", state = folder / "base.state";
  if (!fs::exists(path)) {
    TrainingPreset preset = training_preset("shakespeare");
    LlamaConfig& model = preset.model;
    model.hidden_size = options.dim;
    model.intermediate_size = (options.dim * 8 / 3 + 7) / 8 * 8;
    model.num_layers = options.layers;
    model.num_heads = model.num_kv_heads = options.heads;
    model.vocab_size = text.vocab_size;
    model.max_len = options.uptraining.context;
    TrainingOptions& training = preset.training;
    training.batch = options.uptraining.batch;
    training.context = options.uptraining.context;
    training.steps = options.steps;
    training.minutes = 0;
    training.seed = seed;
    Trainer trainer = fs::exists(state)
                          ? Trainer(state, text, options.uptraining.threads)
                          : Trainer(model, training, text, options.uptraining.threads);
    train_to_the_end(trainer, state, "seed " + std::to_string(seed) + ", base: ");
    write_checkpoint(path, trainer.weights());
    fs::remove(state);
  }
  return Checkpoint(path);
}

json to_json(const UptrainingStart& start, const UptrainingResult& result) {
  json points = json::array();
  for (const UptrainingPoint& point : result.points) {
    points.push_back({{"alpha", point.alpha},
                      {"steps", point.steps},
                      {"loss", point.loss},
                      {"seconds", point.seconds}});
  }
  return {{"method", start.method},
          {"num_kv_heads", start.num_kv_heads},
          {"seed", start.seed},
          {"conversion_seconds", result.conversion_seconds},
          {"seconds_per_step", result.seconds_per_step},
          {"decode_seconds", result.decode_seconds},
          {"largest_spike", result.largest_spike},
          {"points", points}};
}

/// What to_json() made. Throws std::runtime_error if the file holds something else.
json read_run(const fs::path& path, std::size_t points) {
  const json run(read_json(path));
  const auto check = [&](bool good, const char* what) {
    if (!good) throw std::runtime_error(path.string() + ": has no " + what + " of a run");
  };
  check(run.contains("method") && run["method"].is_string(), "method");
  for (const char* name : {"num_kv_heads", "seconds_per_step", "decode_seconds", "largest_spike"}) {
    check(run.contains(name) && run[name].is_number(), name);
  }
  check(run.contains("points") && run["points"].is_array() && run["points"].size() == points,
        "points");
  for (const json& point : run["points"]) {
    check(point.is_object() && point.contains("loss") && point["loss"].is_number(), "loss");
  }
  return run;
}

/// Mean, least and largest of a number over seeds.
struct Spread {
  double sum = 0, least = 0, largest = 0;
  int count = 0;
  void add(double x) {
    least = count == 0 ? x : std::min(least, x);
    largest = count == 0 ? x : std::max(largest, x);
    sum += x;
    ++count;
  }
  double mean() const { return count == 0 ? 0 : sum / count; }
};

/// A line per method and num_kv_heads: means over the seeds.
void print_table(const json& runs, const std::vector<double>& alphas) {
  struct Line {
    std::string method;
    std::int64_t num_kv_heads;
    std::vector<Spread> losses;
    Spread step, decode, spike;
  };
  std::vector<Line> lines;
  for (const json& run : runs) {
    const auto is_line = [&](const Line& line) {
      return line.method == run["method"] && line.num_kv_heads == run["num_kv_heads"];
    };
    auto line = std::ranges::find_if(lines, is_line);
    if (line == lines.end()) {
      lines.push_back(
          {run["method"], run["num_kv_heads"], std::vector<Spread>(alphas.size()), {}, {}, {}});
      line = lines.end() - 1;
    }
    for (std::size_t i = 0; i < alphas.size(); ++i) line->losses[i].add(run["points"][i]["loss"]);
    line->step.add(run["seconds_per_step"]);
    line->decode.add(run["decode_seconds"]);
    line->spike.add(run["largest_spike"]);
  }
  if (lines.empty()) return;
  std::printf(
      "held-out loss, nats per token, at shares alpha of the base's steps; mean of %d seeds\n",
      lines[0].step.count);
  std::printf("%-8s %8s", "method", "KV heads");
  for (const double alpha : alphas) std::printf("  a=%-6g", alpha);
  std::printf(" %9s %10s %10s %10s %7s\n", "spread", "to control", "step / MHA", "us / token",
              "spike");
  const Line& control = lines[0];
  for (const Line& line : lines) {
    std::printf("%-8s %8lld", line.method.c_str(), static_cast<long long>(line.num_kv_heads));
    for (const Spread& loss : line.losses) std::printf("  %8.4f", loss.mean());
    const Spread& last = line.losses.back();
    std::printf(" %9.4f %+9.2f%% %10.3f %10.1f %7.3f\n", last.largest - last.least,
                100 * (last.mean() / control.losses.back().mean() - 1),
                control.step.mean() > 0 ? line.step.mean() / control.step.mean() : 1.0,
                1e6 * line.decode.mean(), line.spike.largest);
  }
  std::printf(
      "spread: largest less least loss over the seeds; to control: of the loss, both at the last "
      "alpha;\nspike: largest loss of a step above the mean of those before it\n");
}

void run(const Options& given) {
  Options options = given;
  options.uptraining.original_steps = options.steps;
  check_not_input(fs::path(options.folder) / "results.json", options.text);
  const TrainingText text = TrainingText::of_bytes(read_text(options.text));
  check_settings(options, text);
  catch_interruptions();
  json runs = json::array();
  for (const std::uint64_t seed : options.seeds) {
    const fs::path folder = fs::path(options.folder) / ("seed" + std::to_string(seed));
    fs::create_directories(folder);
    const Checkpoint base = base_of(options, text, seed, folder);
    std::vector<UptrainingStart> starts = {{"control", base.config().num_kv_heads, seed}};
    for (const std::int64_t num_kv_heads : options.num_kv_heads) {
      for (const std::string& method : options.methods) {
        starts.push_back({method, num_kv_heads, seed});
      }
    }
    for (const UptrainingStart& start : starts) {
      const std::string name = start.method + "-" + std::to_string(start.num_kv_heads);
      const fs::path path = folder / (name + ".json");
      if (!fs::exists(path)) {
        TrainingProgress progress("seed " + std::to_string(seed) + ", " + name + ": ");
        const auto after_step = [&](const Trainer& trainer, double share) {
          progress.show(trainer, share);
          if (is_interrupted()) {
            throw Interrupted("interrupted; finished runs are in " + options.folder +
                              ", the same command goes on from there");
          }
        };
        const auto result = uptrain(base.weights(), start, options.uptraining, text, after_step);
        write_json(path, to_json(start, result));
        progress.note("held out " + std::to_string(result.points.front().loss) + " -> " +
                      std::to_string(result.points.back().loss));
      }
      runs.push_back(read_run(path, options.uptraining.alphas.size()));
    }
  }
  write_json(fs::path(options.folder) / "results.json",
             {{"alphas", options.uptraining.alphas}, {"steps", options.steps}, {"runs", runs}});
  print_table(runs, options.uptraining.alphas);
}

int run(int argc, char** argv) {
  Options options;
  UptrainingOptions& uptraining = options.uptraining;
  CLI::App app("Converts a multi-head model to fewer KV heads and trains it on.", "uptrain");
  add_option(app, "TEXT", options.text, "what to learn, byte by byte; the last tenth is held out")
      ->required();
  add_option(app, "FOLDER", options.folder, "where runs are kept")->required();
  add_option(app, "--steps", options.steps, "that the base is trained for, or was")
      ->check(CLI::PositiveNumber)
      ->required();
  add_option(app, "--base", options.base, "a checkpoint to begin with, of 259 byte tokens");
  const auto list = [&](const char* name, auto& values, const char* what) {
    return add_option(app, name, values, what)->delimiter(',')->capture_default_str();
  };
  list("--methods", options.methods, "of conversion")
      ->check(CLI::IsMember({"mean", "first", "random", "aligned", "fit"}));
  list("--kv-heads", options.num_kv_heads, "numbers of them to convert to")
      ->check(CLI::PositiveNumber);
  list("--alpha", uptraining.alphas, "rising shares of --steps to evaluate at")
      ->check(CLI::NonNegativeNumber);
  list("--seeds", options.seeds, "a base and all its runs for each");
  const auto positive = [&](const char* name, auto& value, const char* what) {
    add_option(app, name, value, what)->check(CLI::PositiveNumber)->capture_default_str();
  };
  positive("--dim", options.dim, "width of the base's residual stream");
  positive("--layers", options.layers, "of the base");
  positive("--heads", options.heads, "of the base");
  positive("--context", uptraining.context, "tokens of a sequence");
  positive("--batch", uptraining.batch, "sequences of a step");
  positive("--lr", uptraining.learning_rate, "of uptraining, constant");
  positive("--calibration", uptraining.calibration, "sequences that aligned and fit look at");
  add_option(app, "--threads", uptraining.threads, "that a step uses")->check(CLI::Range(1, 1024));
  return run_program(app, argc, argv, [&] { run(options); });
}

}  // namespace
}  // namespace gqa::examples

int main(int argc, char** argv) { return gqa::examples::run(argc, argv); }
