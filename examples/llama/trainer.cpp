// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "llama/trainer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "llama/optimizer.hpp"
#include "llama/training_model.hpp"
#include "support/clock.hpp"

namespace gqa::examples {
namespace {

constexpr std::string_view state_magic = "gqa training v01";

/// FNV-1a.
std::uint64_t checksum(std::span<const std::byte> bytes) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const std::byte b : bytes) hash = (hash ^ static_cast<std::uint64_t>(b)) * 0x100000001b3u;
  return hash;
}

/// What a run is and where it stands, but for the weights and their moments.
struct RunState {
  LlamaConfig config;
  TrainingOptions options;
  std::uint64_t text = 0;  // its fingerprint
  std::uint64_t random = 0;
  std::int64_t steps = 0;
  double seconds = 0;
  double smooth_loss = 0;
  double largest_spike = 0;

  /// Calls fn(number) for everything, in the order of the file.
  template <typename F>
  void for_each_number(F fn) {
    for (auto* n : {&config.hidden_size, &config.intermediate_size, &config.num_layers,
                    &config.num_heads, &config.num_kv_heads, &config.vocab_size, &config.max_len,
                    &options.batch, &options.context, &options.steps, &steps}) {
      fn(*n);
    }
    fn(config.rms_norm_eps);
    for (auto* n : {&config.rope_theta, &options.minutes, &options.learning_rate,
                    &options.final_share, &options.warmup_share, &options.weight_decay,
                    &options.clip, &seconds, &smooth_loss, &largest_spike}) {
      fn(*n);
    }
    for (auto* n : {&options.seed, &text, &random}) fn(*n);
  }
};

/// A state file in memory, whole and undamaged.
struct StateFile {
  RunState state;
  std::vector<float> numbers;  // of each parameter in turn: weights, means, squares

  explicit StateFile(const std::filesystem::path& path) {
    BinaryFile file(path);
    const AlignedBytes bytes = file.read_rest();
    ByteCursor cursor(bytes.span(), file.name());
    const auto magic = cursor.take_bytes(state_magic.size(), "a training run's state");
    if (!std::equal(magic.begin(), magic.end(), std::as_bytes(std::span(state_magic)).begin())) {
      cursor.fail("not the state of a training run", state_magic.size());
    }
    if (bytes.size() < state_magic.size() + sizeof(std::uint64_t)) cursor.fail("has no checksum");
    const auto checked = bytes.span().first(bytes.size() - sizeof(std::uint64_t));
    ByteCursor end(bytes.span().last(sizeof(std::uint64_t)), file.name(), checked.size());
    if (end.take<std::uint64_t>("checksum") != checksum(checked)) {
      end.fail("the checksum disagrees: the file is damaged", sizeof(std::uint64_t));
    }
    state.for_each_number(
        [&](auto& n) { n = cursor.take<std::remove_reference_t<decltype(n)>>("the run's state"); });
    const std::uint64_t rest = cursor.remaining() - sizeof(std::uint64_t);
    numbers.resize(static_cast<std::size_t>(rest / sizeof(float)));
    const auto from = cursor.take_bytes(rest, "weights");
    std::memcpy(numbers.data(), from.data(), numbers.size() * sizeof(float));
  }
};

}  // namespace

class Trainer::Run {
 public:
  Run(const RunState& run, const TrainingText& text, int threads)
      : state((check(run, text), run)),
        text_(text),
        pool_(std::max(threads - 1, 1)),
        executor_(pool_, threads),
        model(run.config, run.options.seed) {
    model.for_each_parameter([&](const auto&, std::span<float> weights, std::span<float> gradients,
                                 bool decays) {
      const double decay = decays ? state.options.weight_decay : 0.0;
      parameters_.push_back({weights, gradients, AdamW(weights.size(), {.weight_decay = decay})});
    });
  }

  static void check(const RunState& run, const TrainingText& text) {
    const TrainingOptions& o = run.options;
    require(o.batch > 0 && o.context > 1, "a batch of ", o.batch, " sequences of ", o.context,
            " tokens has nothing to learn");
    require(o.context <= run.config.max_len, "a context of ", o.context,
            " tokens is more than the model's ", Index{run.config.max_len});
    require(o.steps > 0 || o.minutes > 0, "a training run needs a number of steps or of minutes");
    require(o.learning_rate > 0 && o.warmup_share >= 0 && o.warmup_share < 1 && o.clip > 0,
            "learning rate ", o.learning_rate, ", its rise over ", o.warmup_share,
            " of the run and gradients of at most ", o.clip, " don't make a run");
    require(text.vocab_size == run.config.vocab_size, "the model has a vocabulary of ",
            Index{run.config.vocab_size}, ", the text of ", Index{text.vocab_size});
    require(std::ssize(text.training) > o.context + 1 && std::ssize(text.held_out) > 1,
            "a text of ", text.training.size(), " tokens to learn and ", text.held_out.size(),
            " held out is too short for a context of ", o.context);
  }

  double progress() const {
    const TrainingOptions& o = state.options;
    const double by_steps =
        o.steps > 0 ? static_cast<double>(state.steps) / static_cast<double>(o.steps) : 0;
    const double by_time = o.minutes > 0 ? state.seconds / (60 * o.minutes) : 0;
    return std::min(std::max(by_steps, by_time), 1.0);
  }

  double step() {
    const auto start = std::chrono::steady_clock::now();
    const TrainingOptions& o = state.options;
    TrainingRandom random(state.random);
    const TrainingBatch batch = draw_batch(text_, o.batch, o.context, random);
    model.zero_gradients();
    const double loss = model.loss_and_gradients(batch.tokens, batch.targets, o.batch, executor_);
    if (!std::isfinite(loss)) {
      throw std::runtime_error("the loss of step " + std::to_string(state.steps) + " is " +
                               std::to_string(loss) + ": try a smaller learning rate");
    }
    std::vector<std::span<float>> gradients;
    for (const Parameter& parameter : parameters_) gradients.push_back(parameter.gradients);
    clip_gradients(gradients, o.clip);
    const double rate = learning_rate();
    executor_.run(std::ssize(parameters_), [&](Index i, Index) noexcept {
      Parameter& parameter = parameters_[static_cast<std::size_t>(i)];
      parameter.optimizer.step(parameter.weights, parameter.gradients, rate);
    });
    if (state.steps > 0 && progress() > o.warmup_share) {
      state.largest_spike = std::max(state.largest_spike, loss - state.smooth_loss);
    }
    const auto weight = 1 / static_cast<double>(std::min<std::int64_t>(++state.steps, 50));
    state.smooth_loss += weight * (loss - state.smooth_loss);
    state.random = random.state();
    state.seconds += seconds_since(start);
    return loss;
  }

  double held_out_loss(std::int64_t most_windows) {
    const auto start = std::chrono::steady_clock::now();
    const std::int64_t context = state.options.context;
    std::int64_t windows = count_held_out_windows(text_, context);
    if (most_windows > 0) windows = std::min(windows, most_windows);
    double sum = 0, count = 0;
    for (std::int64_t begin = 0; begin < windows; begin += 16) {
      const std::int64_t batch = std::min<std::int64_t>(16, windows - begin);
      const TrainingBatch part = held_out_windows(text_, begin, batch, context);
      const auto learnt = static_cast<double>(
          std::ranges::count_if(part.targets, [](std::int32_t target) { return target >= 0; }));
      sum += learnt * model.loss(part.tokens, part.targets, batch, executor_);
      count += learnt;
    }
    state.seconds += seconds_since(start);
    return sum / count;
  }

  void save(const std::filesystem::path& path) {
    FileWriter file;
    file.put(state_magic);
    state.for_each_number([&](auto n) { file.put(n); });
    for (Parameter& parameter : parameters_) {
      file.put(std::span<const float>(parameter.weights));
      file.put(std::span<const float>(parameter.optimizer.means()));
      file.put(std::span<const float>(parameter.optimizer.squares()));
    }
    file.put(checksum(file.bytes()));
    file.write(path);
  }

  void load(const std::vector<float>& numbers) {
    auto from = numbers.begin();
    for (Parameter& parameter : parameters_) {
      for (const std::span<float> to :
           {parameter.weights, parameter.optimizer.means(), parameter.optimizer.squares()}) {
        std::copy_n(from, to.size(), to.begin());
        from += std::ssize(to);
      }
      parameter.optimizer.set_steps(state.steps);
    }
  }

 private:
  struct Parameter {
    std::span<float> weights, gradients;
    AdamW optimizer;
  };

  /// Of the next step.
  double learning_rate() const {
    constexpr double whole = 1e6;  // the schedule counts in millionths of the run
    const TrainingOptions& o = state.options;
    const CosineSchedule schedule{.peak = o.learning_rate,
                                  .floor = o.learning_rate * o.final_share,
                                  .warmup_steps = static_cast<Index>(whole * o.warmup_share),
                                  .total_steps = static_cast<Index>(whole)};
    return schedule(static_cast<Index>(whole * progress()));
  }

  friend class Trainer;
  RunState state;
  const TrainingText& text_;
  Eigen::ThreadPool pool_;
  EigenPool executor_;
  TrainableLlama<float> model;
  std::vector<Parameter> parameters_;
};

namespace {

RunState first_state(const LlamaConfig& config, const TrainingOptions& options,
                     const TrainingText& text) {
  return {.config = config,
          .options = options,
          .text = text.fingerprint(),
          .random = options.seed * 0x9e3779b97f4a7c15u};
}

}  // namespace

Trainer::Trainer(const LlamaConfig& config, const TrainingOptions& options,
                 const TrainingText& text, int threads)
    : run_(std::make_unique<Run>(first_state(config, options, text), text, threads)) {}

Trainer::Trainer(const CheckpointWeights& weights, const TrainingOptions& options,
                 const TrainingText& text, int threads)
    : Trainer(weights.config, options, text, threads) {
  run_->model.set_weights(weights);
}

Trainer::Trainer(const std::filesystem::path& path, const TrainingText& text, int threads) {
  const StateFile file(path);
  const RunState& state = file.state;
  if (state.text != text.fingerprint()) {
    throw std::runtime_error(path.string() + ": is the state of a run on another text");
  }
  // The checksum says that the file is as it was written, not that this program wrote it.
  double parameters = 0;
  const LlamaConfig& c = state.config;
  if (c.num_heads > 0 && c.num_layers > 0) {
    for (const auto& block : CheckpointWeights::blocks(c, true)) {
      const bool table =
          block.single == &CheckpointWeights::cosines || block.single == &CheckpointWeights::sines;
      if (table) continue;
      parameters += static_cast<double>(block.rows) * static_cast<double>(block.columns) *
                    (block.single ? 1.0 : static_cast<double>(c.num_layers));
    }
  }
  if (static_cast<double>(file.numbers.size()) != 3 * parameters) {
    throw std::runtime_error(path.string() + ": has " + std::to_string(file.numbers.size()) +
                             " numbers for a model of " + std::to_string(parameters) +
                             " parameters, which takes three for each");
  }
  run_ = std::make_unique<Run>(state, text, threads);
  run_->load(file.numbers);
}

Trainer::~Trainer() = default;
Trainer::Trainer(Trainer&&) noexcept = default;

double Trainer::step() { return run_->step(); }
double Trainer::held_out_loss(std::int64_t most_windows) {
  return run_->held_out_loss(most_windows);
}
const LlamaConfig& Trainer::config() const { return run_->state.config; }
const TrainingOptions& Trainer::options() const { return run_->state.options; }
std::int64_t Trainer::steps() const { return run_->state.steps; }
double Trainer::seconds() const { return run_->state.seconds; }
double Trainer::progress() const { return run_->progress(); }
double Trainer::smooth_loss() const { return run_->state.smooth_loss; }
double Trainer::largest_spike() const { return run_->state.largest_spike; }
std::int64_t Trainer::num_parameters() const {
  std::size_t count = 0;
  for (const auto& parameter : run_->parameters_) count += parameter.weights.size();
  return static_cast<std::int64_t>(count);
}
CheckpointWeights Trainer::weights() const { return run_->model.weights(); }
void Trainer::save(const std::filesystem::path& state) const { run_->save(state); }

}  // namespace gqa::examples
