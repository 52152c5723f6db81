// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A Hugging Face checkpoint (Llama, Mistral, Qwen, …) with fewer KV heads:
//
//   convert_checkpoint IN_DIR OUT_DIR --num-kv-heads 8 --method mean
//
// Tensors go from file to file through memory maps, so that memory for one layer is enough. mean,
// first and random change k_proj and v_proj alone; aligned and fit write q_proj and o_proj anew, as
// well. All other tensors are copied byte for byte; a tensor that belongs to keys or values in a
// way that isn't known is refused. What each layer has lost goes to stdout.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_shape.hpp"
#include "checkpoint/copy.hpp"
#include "checkpoint/folder.hpp"
#include "llama/convert.hpp"
#include "llama/hugging_face.hpp"
#include "llama/token_texts.hpp"
#include "support/command_line.hpp"
#include "support/signals.hpp"

namespace gqa::examples {
namespace {

struct Options {
  std::string in;
  std::string out;
  std::string method = "mean";
  std::string calibration;
  Index tokens = 512;
  bool quiet = false;
  ConversionOptions conversion;
};

/// A bar on stderr, if that is a terminal; and where an interrupted run ends.
class Progress {
 public:
  explicit Progress(bool quiet) : shown_(!quiet && ::isatty(STDERR_FILENO) == 1) {}
  ~Progress() { clear(); }

  void operator()(std::uint64_t done, std::uint64_t total) {
    if (is_interrupted()) throw std::runtime_error("interrupted; nothing was kept");
    const auto now = std::chrono::steady_clock::now();
    if (!shown_ || (now - last_ < std::chrono::milliseconds(100) && done < total)) return;
    last_ = now;
    constexpr int width = 40;
    const double part = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1.0;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const std::string bar(static_cast<std::size_t>(part * width), '#');
    std::fprintf(stderr, "\r[%-*s] %3.0f %%  %.0f MB/s  %.0f s left   ", width, bar.c_str(),
                 100 * part, static_cast<double>(done) / 1e6 / seconds,
                 part > 0 ? seconds / part * (1 - part) : 0.0);
  }
  void clear() const {
    if (shown_) std::fprintf(stderr, "\r%80s\r", "");
  }

 private:
  bool shown_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_ = start_;
};

void report(Index layer, const LayerConversion& conversion, Index group) {
  std::printf("layer %td: lost of keys %.4f, of values %.4f", layer, conversion.pooling.keys,
              conversion.pooling.values);
  if (conversion.fit.error_before > 0) {
    std::printf("; outputs off by %.4f, fitted %.4f", conversion.fit.error_before,
                conversion.fit.error_after);
  }
  for (std::size_t i = 0; i < conversion.order.size(); ++i) {
    const bool first = i % static_cast<std::size_t>(group) == 0;
    std::printf("%s%td", i == 0 ? "; heads " : first ? " | " : " ", conversion.order[i]);
  }
  std::printf("\n");
  flush_stdout();
}

/// k_proj and v_proj of one layer, in the type that they have.
LayerConversion pool_tensors(const CheckpointFolder& folder, const CheckpointShape& model,
                             Index layer, const ConversionOptions& options, CheckpointCopy& copy) {
  const HeadPooling pooling{.from = model.attention.num_kv_heads, .to = options.num_kv_heads};
  LayerConversion result;
  const auto pool = [&](const std::string& rest, Index cols, std::uint64_t salt) {
    const std::string name = attention_name(layer, rest);
    double lost = 0;
    with_type_of(folder.find(name).tensor->dtype, [&]<typename T>(T) {
      if constexpr (Scalar<T>) {
        const auto weight = folder.matrix<T>(name, model.attention.key_width(), cols);
        const auto seed = options.seed * 1'000'003 + static_cast<std::uint64_t>(layer);
        const auto pooled = options.method == ConversionMethod::mean
                                ? mean_pool_heads(weight, pooling)
                            : options.method == ConversionMethod::first
                                ? first_pool_heads(weight, pooling)
                                : random_pool_heads(weight, pooling, 4 * seed + salt);
        copy.write(name, pooled);
        lost = head_pooling_error(weight, pooled, pooling);
      }
    });
    return lost;
  };
  result.pooling = {.keys = pool("k_proj.weight", model.hidden_size, 0),
                    .values = pool("v_proj.weight", model.hidden_size, 1)};
  if (model.attention.qkv_bias) {
    pool("k_proj.bias", 1, 2);
    pool("v_proj.bias", 1, 3);
  }
  return result;
}

/// The tensors that aligned and fit write, of one layer.
std::vector<std::string> rewritten(const CheckpointShape& model) {
  std::vector<std::string> names = {"q_proj.weight", "k_proj.weight", "v_proj.weight",
                                    "o_proj.weight"};
  if (model.attention.qkv_bias) {
    for (const char* name : {"q_proj.bias", "k_proj.bias", "v_proj.bias"}) names.push_back(name);
  }
  return names;
}

/// What fit, and aligned with calibration, read of a layer besides attention.
struct FeedForwardTensor {
  const char* name;
  Index rows, cols;
};
std::vector<FeedForwardTensor> feed_forward_tensors(const LlamaConfig& config) {
  const Index hidden = config.hidden_size, inner = config.intermediate_size;
  return {{"input_layernorm.weight", hidden, 1},
          {"post_attention_layernorm.weight", hidden, 1},
          {"mlp.gate_proj.weight", inner, hidden},
          {"mlp.up_proj.weight", inner, hidden},
          {"mlp.down_proj.weight", hidden, inner}};
}

Llama::Layer read_layer(const CheckpointFolder& folder, const CheckpointShape& model, Index i,
                        const std::optional<LlamaConfig>& config) {
  MultiHeadAttentionConfig attention = model.attention;
  if (config) attention.rope = folder.config().rope();
  Llama::Layer layer{.attention = Llama::Attention(attention)};
  const auto& weights = layer.attention.weights();
  for (const std::string& name : rewritten(model)) {
    const auto shape = weights.shape_of(find_attention_weight(name)->weight);
    layer.attention.set_weight(name,
                               folder.matrix(attention_name(i, name), shape.rows, shape.cols));
  }
  if (!config) return layer;
  std::vector<Llama::Matrix> read;
  for (const auto& [name, rows, cols] : feed_forward_tensors(*config)) {
    read.push_back(folder.matrix(tensor_name(i, name), rows, cols));
  }
  const auto norm = [](const Llama::Matrix& column) {
    return std::vector<float>(column.data(), column.data() + column.size());
  };
  layer.attention_norm = norm(read[0]);
  layer.feed_forward_norm = norm(read[1]);
  layer.gate = std::move(read[2]);
  layer.up = std::move(read[3]);
  layer.down = std::move(read[4]);
  layer.rms_norm_eps = config->rms_norm_eps;
  return layer;
}

/// The residual streams of calibration text as they begin.
std::vector<Llama::Matrix> embed(const CheckpointFolder& folder, const LlamaConfig& config,
                                 const Options& options) {
  const auto texts = read_token_texts(options.calibration, config.vocab_size);
  auto length = static_cast<std::size_t>(options.tokens);
  for (const auto& text : texts) length = std::min(length, text.size());
  require(!texts.empty() && length > 0, options.calibration, ": has no tokens, or a text without");
  const std::string name = "model.embed_tokens.weight";
  folder.check_matrix(name, config.vocab_size, config.hidden_size);
  const FileTensor& table = *folder.find(name).tensor;
  std::vector<Llama::Matrix> result;
  for (const auto& text : texts) {
    auto& x = result.emplace_back(static_cast<Index>(length), config.hidden_size);
    for (Index row = 0; row < x.rows(); ++row) {
      const std::int64_t token = text[static_cast<std::size_t>(row)];
      with_type_of(table.dtype, [&]<typename T>(T) {
        if constexpr (Scalar<T>) {
          const auto* bytes =
              table.bytes.data() + sizeof(T) * static_cast<std::size_t>(token * config.hidden_size);
          for (Index i = 0; i < x.cols(); ++i) {
            T value;
            std::memcpy(&value, bytes + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
            x(row, i) = gqa::convert<float>(value);
          }
        }
      });
    }
  }
  return result;
}

/// Aligned and fit turn pairs of channels: right only where those are halves.
void check_turns(const CheckpointFolder& folder, const Options& options) {
  const std::string& type = folder.config().model_type;
  for (const char* known : {"llama", "mistral", "qwen2", "qwen3", "gemma"}) {
    if (type == known) return;
  }
  folder.config().fail("model_type is \"" + type + "\": --method " + options.method +
                       " knows llama, mistral, qwen2, qwen3 and gemma; mean, first and random do "
                       "with any");
}

void run(const Options& options) {
  const CheckpointFolder folder(options.in);
  const CheckpointShape model(folder);
  const ConversionOptions& conversion = options.conversion;
  const Index from = model.attention.num_kv_heads, to = conversion.num_kv_heads;
  require(from % to == 0, "--num-kv-heads ", to, " does not divide the ", from, " that ",
          options.in, " has");
  const bool turns =
      conversion.method == ConversionMethod::aligned || conversion.method == ConversionMethod::fit;
  if (turns) check_turns(folder, options);
  model.check_others(folder, conversion.method == ConversionMethod::mean ||
                                 conversion.method == ConversionMethod::first);
  require(conversion.method != ConversionMethod::fit || !options.calibration.empty(),
          "--method fit needs --calibration");
  std::optional<LlamaConfig> llama;
  std::vector<Llama::Matrix> embedded;
  if (turns && !options.calibration.empty()) {
    llama = llama_config(folder.config());
    for (Index i = 0; i < model.num_layers; ++i) {
      for (const auto& [name, rows, cols] : feed_forward_tensors(*llama)) {
        folder.check_matrix(tensor_name(i, name), rows, cols);
      }
    }
    embedded = embed(folder, *llama, options);
  }

  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (Index i = 0; i < model.num_layers; ++i) {
    for (const std::string& rest : rewritten(model)) {
      const bool of_keys = rest.starts_with("k_proj") || rest.starts_with("v_proj");
      if (!turns && !of_keys) continue;
      const auto [shard, tensor] = folder.find(attention_name(i, rest));
      if (tensor->dtype != DType::f32 && tensor->dtype != DType::f16 &&
          tensor->dtype != DType::bf16) {
        fail_at(shard->path(), tensor->byte,
                describe(attention_name(i, rest), *tensor) + " is none of F32, F16, BF16");
      }
      auto shape = tensor->shape;
      if (of_keys) shape[0] = shape[0] / from * to;
      shapes[attention_name(i, rest)] = shape;
    }
  }

  OrderedJson config = folder.config().json();
  config["num_key_value_heads"] = to;
  Progress progress(options.quiet);
  CheckpointCopy copy(folder, options.out, shapes, config,
                      [&](std::uint64_t done, std::uint64_t total) { progress(done, total); });
  copy.copy_others();
  Conversion streams(conversion, std::move(embedded));
  for (Index i = 0; i < model.num_layers; ++i) {
    LayerConversion result;
    if (turns) {
      const auto attention = streams.next(read_layer(folder, model, i, llama), result);
      for (const std::string& rest : rewritten(model)) {
        const auto shape = attention.weights().shape_of(find_attention_weight(rest)->weight);
        Llama::Matrix weight(shape.rows, shape.cols);
        attention.get_weight(rest, weight);
        copy.write(attention_name(i, rest), weight);
      }
    } else {
      result = pool_tensors(folder, model, i, conversion, copy);
    }
    progress.clear();
    report(i, result, from / to);
  }
  copy.finish();
  for (const std::string& name : copy.left_out()) {
    std::fprintf(stderr, "left out: %s\n", name.c_str());
  }
}

}  // namespace
}  // namespace gqa::examples

int main(int argc, char** argv) {
  using namespace gqa::examples;
  Options options;
  CLI::App app("Converts a Hugging Face checkpoint to fewer KV heads.", "convert_checkpoint");
  add_option(app, "IN_DIR", options.in, "folder with config.json and safetensors")->required();
  add_option(app, "OUT_DIR", options.out, "folder to make; must not exist")->required();
  add_option(app, "--num-kv-heads", options.conversion.num_kv_heads,
             "KV heads wanted: divides those there are; 1 makes multi-query attention")
      ->check(CLI::PositiveNumber)
      ->required();
  add_option(app, "--method", options.method,
             "mean, first and random pool; aligned turns heads so that they agree, then pools; "
             "fit goes on with least squares on calibration text")
      ->check(CLI::IsMember(
          std::vector<std::string>(conversion_method_names.begin(), conversion_method_names.end())))
      ->capture_default_str();
  add_option(app, "--calibration", options.calibration,
             "JSON with token ids, {\"tokens\": [[...]]}: for fit, and for aligned if given; "
             "texts are cut to the shortest");
  add_option(app, "--tokens", options.tokens, "of each calibration text at most")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_option(app, "--seed", options.conversion.seed, "of random heads")->capture_default_str();
  app.add_flag("--quiet", options.quiet, "no progress bar");
  return run_program(app, argc, argv, [&] {
    catch_interruptions();
    options.conversion.method = conversion_method(options.method);
    run(options);
  });
}
