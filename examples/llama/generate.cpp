// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Continues a text with a llama2.c checkpoint, as llama2.c's run.c does:
//
//   generate stories260K.bin tok512.bin --prompt "Once upon a time" --steps 256
//
// or, with no files, with the model in examples/models, which has learnt Shakespeare byte by byte:
//
//   generate --prompt "ROMEO:" --temperature 0.8
//
// The text goes to stdout as it comes, figures and errors to stderr.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "llama/checkpoint.hpp"
#include "llama/model.hpp"
#include "llama/sampler.hpp"
#include "llama/tokenizer.hpp"
#include "support/clock.hpp"
#include "support/command_line.hpp"

namespace gqa::examples {
namespace {

struct Options {
  std::string checkpoint = GQA_EXAMPLE_MODELS_DIR "/small.bin";
  std::string tokenizer = GQA_EXAMPLE_MODELS_DIR "/small.tokenizer.bin";
  std::string prompt;
  Index steps = 256;
  SamplerOptions sampler;
  std::string kv_dtype = "f32";
  Index threads = 1;
};

/// Prints what tokens say, piece by piece. Control characters, which byte tokens may be, stay away
/// from the terminal.
class Printer {
 public:
  explicit Printer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  void print(Tokenizer::Token token) {
    for (const char c : tokenizer_.decode(previous_, token)) {
      const auto byte = static_cast<unsigned char>(c);
      const bool space = c == ' ' || (c >= '\t' && c <= '\r');
      if (space || (byte > 0x20 && byte != 0x7F)) std::cout << c;
    }
    std::cout.flush();
    previous_ = token;
  }

 private:
  const Tokenizer& tokenizer_;
  Tokenizer::Token previous_ = Tokenizer::begin_of_sequence;
};

template <StorageType Storage>
void generate(const Options& options, const Llama& model, const Tokenizer& tokenizer,
              const EigenPool& executor) {
  const Index max_len = model.config().max_len;
  const Index steps = options.steps == 0 ? max_len : options.steps;
  require(steps <= max_len, "--steps ", steps, " is more than the ", max_len,
          " tokens that the model was trained on");
  Sampler sampler(options.sampler);
  Printer printer(tokenizer);

  // `steps` tokens are fed, the prompt's among them; the text is what follows the first one.
  std::vector<Llama::Token> prompt = tokenizer.encode(options.prompt);
  const auto fed = static_cast<std::size_t>(std::min(std::ssize(prompt), steps));
  for (std::size_t i = 1; i < std::min(fed + 1, prompt.size()); ++i) printer.print(prompt[i]);

  LlamaSession<Storage> session(model.config(), steps);
  auto start = std::chrono::steady_clock::now();
  const auto first = std::span(prompt).first(fed);
  Llama::Matrix logits = model.forward(first, session, LogitsOf::last_token, executor);
  const double prompt_seconds = seconds_since(start);

  start = std::chrono::steady_clock::now();
  Index decoded = 0;
  while (fed == prompt.size()) {
    const auto size = static_cast<std::size_t>(logits.size());
    const Llama::Token next = sampler.sample({logits.data(), size});
    if (next == Tokenizer::begin_of_sequence) break;  // another text would begin
    printer.print(next);
    if (session.length() == steps) break;
    logits = model.forward({&next, 1}, session, LogitsOf::last_token, executor);
    ++decoded;
  }
  const double decode_seconds = seconds_since(start);
  std::cout << "\n";
  flush_stdout();

  std::cerr << "prompt: " << fed << " tokens, " << static_cast<double>(fed) / prompt_seconds
            << " tokens/s\n";
  if (decoded > 0) {
    std::cerr << "decode: " << decoded << " tokens, "
              << static_cast<double>(decoded) / decode_seconds << " tokens/s\n";
  }
  std::cerr << "KV cache: " << session.kv_bytes() << " bytes (" << scalar_name<Storage>() << ", "
            << model.config().num_layers << " layers, " << session.length() << " of "
            << session.capacity() << " tokens)\n";
}

void generate(const Options& options, const EigenPool& executor) {
  const Checkpoint checkpoint(options.checkpoint);
  const Tokenizer tokenizer(options.tokenizer, checkpoint.config().vocab_size);
  const Llama model(checkpoint);
  if (options.kv_dtype == "f32") return generate<float>(options, model, tokenizer, executor);
  if (options.kv_dtype == "bf16") return generate<bfloat16>(options, model, tokenizer, executor);
  if (options.kv_dtype == "f16") return generate<half>(options, model, tokenizer, executor);
  if (options.kv_dtype == "int8") return generate<Int8>(options, model, tokenizer, executor);
  if (options.kv_dtype == "int4") return generate<Int4>(options, model, tokenizer, executor);
  throw std::invalid_argument("--kv-dtype " + options.kv_dtype);
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Continues a text with a llama2.c checkpoint.", "generate");
  CLI::Option* checkpoint = add_option(app, "CHECKPOINT", options.checkpoint,
                                       "llama2.c checkpoint, e.g. stories260K.bin; without "
                                       "one, the model in examples/models");
  checkpoint->needs(
      add_option(app, "TOKENIZER", options.tokenizer, "its tokenizer, e.g. tok512.bin"));
  app.add_option("--prompt", options.prompt, "the beginning of the text");
  add_option(app, "--steps", options.steps,
             "tokens in all, the prompt's included; 0: the model's most")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add_option(app, "--temperature", options.sampler.temperature, "0 takes the likeliest token")
      ->capture_default_str();
  add_option(app, "--top-p", options.sampler.top_p,
             "sample among the likeliest tokens of this total probability")
      ->capture_default_str();
  add_option(app, "--seed", options.sampler.seed, "of the random numbers, not 0")
      ->capture_default_str();
  add_option(app, "--kv-dtype", options.kv_dtype, "how keys and values are stored")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "int8", "int4"}))
      ->capture_default_str();
  add_option(app, "--threads", options.threads, "that attention uses")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  return run_program(app, argc, argv, [&] {
    // The caller works, too; the pool has a thread more than is needed when that is all.
    Eigen::ThreadPool pool(std::max(static_cast<int>(options.threads) - 1, 1));
    generate(options, EigenPool(pool, options.threads));
  });
}

}  // namespace
}  // namespace gqa::examples

int main(int argc, char** argv) { return gqa::examples::run(argc, argv); }
