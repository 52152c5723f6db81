// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What the keys and values of well-known models take, as MHA, GQA and MQA:
//
//   kv_memory --context 8192 --memory 24GiB
//
// Each model is shown with a KV head per query head, with 8 and with 1, and with its own number,
// which is marked. Weights are counted with that many KV heads, too.

#include <CLI/CLI.hpp>
#include <cctype>
#include <cstdio>
#include <exception>
#include <map>
#include <set>
#include <string>

#include "support/command_line.hpp"
#include "support/model_shapes.hpp"

namespace gqa::examples {
namespace {

struct Options {
  double memory = 0;  // bytes
  Index context = 8192;
  Index batch = 1;
  Dtype kv_dtype = Dtype::bf16;
  double bytes_per_weight = 2;
  std::string model;
};

/// "16GiB", "512 MiB", "8GB" as bytes. Throws std::invalid_argument.
double bytes_of(const std::string& text) {
  static const std::map<std::string, double> units{
      {"B", 1.0},  {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
      {"KB", 1e3}, {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};
  std::size_t digits = 0;
  double number = -1;
  try {
    number = std::stod(text, &digits);
  } catch (const std::exception&) {
  }
  while (digits < text.size() && std::isspace(static_cast<unsigned char>(text[digits]))) ++digits;
  const auto unit = units.find(text.substr(std::min(digits, text.size())));
  require(number > 0 && number < 1e9 && unit != units.end(), "--memory ", text,
          ": expected a number and B, KiB, MiB, GiB, TiB, KB, MB, GB or TB, as in 16GiB");
  return number * unit->second;
}

double gib(double bytes) { return bytes / 0x1p30; }

/// Tokens of each sequence, of whole blocks, for which weights and cache fit; -1 if not even the
/// weights do.
Index longest_context(const ModelShape& model, Index kv_heads, const Options& options) {
  const double weights = static_cast<double>(model.parameters(kv_heads)) * options.bytes_per_weight;
  const auto fits = [&](Index blocks) {
    return weights +
               model.kv_bytes(kv_heads, options.kv_dtype, blocks * block_keys, options.batch) <=
           options.memory;
  };
  constexpr Index endless = Index{1} << 34;  // tokens
  Index low = 0, high = endless / block_keys;
  if (!fits(low)) return -1;
  if (fits(high)) return endless;
  while (high - low > 1) {  // low fits, high doesn't
    const Index middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low * block_keys;
}

/// "8192 (45 %)": the longest context, and the cache's share of the memory then.
std::string longest_text(const ModelShape& model, Index kv_heads, const Options& options) {
  const Index tokens = longest_context(model, kv_heads, options);
  if (tokens < 0) return "weights don't fit";
  if (tokens >= Index{1} << 34) return "no limit";
  const double bytes = model.kv_bytes(kv_heads, options.kv_dtype, tokens, options.batch);
  char text[64];
  std::snprintf(text, sizeof(text), "%td (%.0f %%)", tokens, 100 * bytes / options.memory);
  return text;
}

/// Tokens per sequence from which the cache is `share` of weights and cache together.
std::string tokens_for_share(const ModelShape& model, Index kv_heads, const Options& options,
                             double share) {
  const double weights = static_cast<double>(model.parameters(kv_heads)) * options.bytes_per_weight;
  const auto reached = [&](Index blocks) {
    return model.kv_bytes(kv_heads, options.kv_dtype, blocks * block_keys, options.batch) >=
           weights * share / (1 - share);
  };
  Index low = 0, high = Index{1} << 28;
  if (!reached(high)) return "never";
  while (high - low > 1) {
    const Index middle = low + (high - low) / 2;
    (reached(middle) ? high : low) = middle;
  }
  return std::to_string(high * block_keys);
}

void print(const ModelShape& model, const Options& options) {
  std::set<Index, std::greater<>> choices{model.num_heads, model.num_kv_heads, 1};
  if (model.num_heads % 8 == 0) choices.insert(8);
  for (const Index kv_heads : choices) {
    const double weights =
        static_cast<double>(model.parameters(kv_heads)) * options.bytes_per_weight;
    const double bytes = model.kv_bytes(kv_heads, options.kv_dtype, options.context, options.batch);
    const char* kind = kv_heads == model.num_heads ? "MHA" : kv_heads == 1 ? "MQA" : "GQA";
    std::printf("%-12s %s %3td%c %9.2f %10.1f %10.3f %6.1f %% %10s %10s", model.name.data(), kind,
                kv_heads, kv_heads == model.num_kv_heads ? '*' : ' ', gib(weights),
                model.kv_bytes(kv_heads, options.kv_dtype, block_keys, 1) /
                    static_cast<double>(block_keys) / 1024,
                gib(bytes), 100 * bytes / (weights + bytes),
                tokens_for_share(model, kv_heads, options, 0.4).c_str(),
                tokens_for_share(model, kv_heads, options, 0.6).c_str());
    if (options.memory > 0) {
      std::printf("  %s", longest_text(model, kv_heads, options).c_str());
    }
    std::printf("\n");
  }
}

void print(const Options& options) {
  bool known = options.model.empty();
  for (const ModelShape& model : model_shapes) known |= options.model == model.name;
  require(known, "--model ", options.model, " is not in the table: run without --model");

  std::printf("%td sequence%s of %td tokens; GiB but where it says KiB; * the model's own\n\n",
              options.batch, options.batch == 1 ? "" : "s", options.context);
  std::printf("%-12s %-8s %9s %10s %10s %8s %10s %10s%s\n", "model", "KV heads", "weights",
              "KiB/token", "KV cache", "share", "40 % from", "60 % from",
              options.memory > 0 ? "  longest context (cache's share of the memory)" : "");
  for (const ModelShape& model : model_shapes) {
    if (options.model.empty() || options.model == model.name) print(model, options);
  }
  std::printf(
      "\nshare: of weights and cache together; 40 %% from, 60 %% from: tokens per sequence at "
      "which\n"
      "the cache is that share of both. T5-XXL counts cross-attention over as many input tokens;\n"
      "windowed layers (Mistral's all, Gemma's every other one) keep 4096 tokens.\n");
}

int run(int argc, char** argv) {
  Options options;
  std::string memory;
  CLI::App app("Tables what keys and values take, for MHA, GQA and MQA.", "kv_memory");
  add_option(app, "--memory", memory, "what weights and cache have to fit into, e.g. 16GiB");
  add_option(app, "--context", options.context, "tokens of each sequence")
      ->check(CLI::Range(Index{1}, Index{1} << 30))
      ->capture_default_str();
  add_option(app, "--batch", options.batch, "sequences")
      ->check(CLI::Range(Index{1}, Index{1} << 20))
      ->capture_default_str();
  const std::map<std::string, Dtype> dtypes{{"f32", Dtype::f32},
                                            {"f16", Dtype::f16},
                                            {"bf16", Dtype::bf16},
                                            {"int8", Dtype::int8},
                                            {"int4", Dtype::int4}};
  add_option(app, "--kv-dtype", options.kv_dtype,
             "of keys and values: f32, f16, bf16, int8, int4 [bf16]")
      ->transform(CLI::CheckedTransformer(dtypes));
  add_option(app, "--bytes-per-weight", options.bytes_per_weight, "2 for bf16, 0.5 for four bits")
      ->check(CLI::Range(0.1, 8.0))
      ->capture_default_str();
  add_option(app, "--model", options.model, "only this model, e.g. Llama-3-8B");
  return run_program(app, argc, argv, [&] {
    if (!memory.empty()) options.memory = bytes_of(memory);
    print(options);
  });
}

}  // namespace
}  // namespace gqa::examples

int main(int argc, char** argv) { return gqa::examples::run(argc, argv); }
