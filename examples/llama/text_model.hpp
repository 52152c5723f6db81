// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A model and its words, for the programs that show what an engine does around one: a llama2.c
// checkpoint with its tokenizer, or, where there is none, random weights, whose tokens are numbers.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <sstream>
#include <string>

#include "llama/checkpoint.hpp"
#include "llama/model.hpp"
#include "llama/sampler.hpp"
#include "llama/tokenizer.hpp"
#include "support/command_line.hpp"

namespace gqa::examples {

struct TextModelFiles {
  std::string checkpoint;  ///< empty: random weights
  std::string tokenizer;

  void add_to(CLI::App& app) {
    CLI::Option* file = add_option(app, "CHECKPOINT", checkpoint,
                                   "llama2.c checkpoint, e.g. stories260K.bin; without one, "
                                   "random weights write numbers");
    CLI::Option* tokens = add_option(app, "TOKENIZER", tokenizer, "its tokenizer, e.g. tok512.bin");
    file->needs(tokens);
  }
};

class TextModel {
 public:
  using Token = Llama::Token;

  explicit TextModel(const TextModelFiles& files) : model_(load(files)) {
    if (!files.checkpoint.empty()) tokenizer_.emplace(files.tokenizer, config().vocab_size);
  }

  const Llama& model() const { return model_; }
  const LlamaConfig& config() const { return model_.config(); }

  /// Begin of sequence, then the text's tokens; of random weights, a token per character.
  std::vector<Token> encode(const std::string& text) const {
    if (tokenizer_) return tokenizer_->encode(text);
    std::vector<Token> tokens{Tokenizer::begin_of_sequence};
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c) % 64 + 2);
    return tokens;
  }
  /// The text of a sequence, its first token left out.
  std::string text(std::span<const Token> tokens) const {
    std::ostringstream out;
    for (std::size_t i = 1; i < tokens.size(); ++i) {
      if (tokenizer_) {
        out << tokenizer_->decode(tokens[i - 1], tokens[i]);
      } else {
        out << (i > 1 ? " " : "") << tokens[i];
      }
    }
    return out.str();
  }

  /// The likeliest tokens after a prompt, one at a time, until there are `length` tokens in all or
  /// the text ends: what every program here is compared with.
  std::vector<Token> greedy(std::vector<Token> tokens, Index length) const {
    LlamaSession<float> session(config(), length);
    std::span<const Token> fed = tokens;
    while (std::ssize(tokens) < length) {
      const Token next = likeliest(model_.forward(fed, session, LogitsOf::last_token), 0);
      if (next == Tokenizer::begin_of_sequence) break;  // another text would begin
      tokens.push_back(next);
      fed = std::span<const Token>(tokens).last(1);
    }
    return tokens;
  }
  static Token likeliest(const Llama::Matrix& logits, Index row) {
    return Sampler::most_likely({logits.row(row).data(), static_cast<std::size_t>(logits.cols())});
  }

  static Llama load(const TextModelFiles& files) {
    if (!files.checkpoint.empty()) return Llama(Checkpoint(files.checkpoint));
    return Llama({.hidden_size = 64,
                  .intermediate_size = 172,
                  .num_layers = 5,
                  .num_heads = 8,
                  .num_kv_heads = 4,
                  .vocab_size = 96,
                  .max_len = 512},
                 1);
  }

 private:
  Llama model_;
  std::optional<Tokenizer> tokenizer_;
};

}  // namespace gqa::examples
