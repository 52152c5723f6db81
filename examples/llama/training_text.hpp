// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A text as a trainer reads it: tokens, the last part of which are held out to measure the loss on,
// and the batches that are drawn from the others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "llama/tokenizer.hpp"

namespace gqa::examples {

struct TrainingText {
  using Token = Tokenizer::Token;

  std::vector<Token> training;
  std::vector<Token> held_out;
  std::int64_t held_out_bytes = 0;  ///< that the held-out tokens stand for
  std::int64_t vocab_size = 0;
  std::vector<std::size_t> paragraphs;  ///< where they begin in `training`
  std::vector<Token> before_paragraph;  ///< what a prompt puts in front of one

  /// Each byte a token. Throws std::invalid_argument for a text too short to hold some of it out.
  static TrainingText of_bytes(std::string_view text);
  /// Paragraphs, each with begin of sequence in front, as the tokenizer splits them.
  static TrainingText of_tokens(std::string_view text, const Tokenizer& tokenizer);

  /// Tells texts apart: an FNV-1a hash of all tokens.
  std::uint64_t fingerprint() const;
};

/// The random numbers of a training run, whose state is one number: splitmix64.
class TrainingRandom {
 public:
  explicit TrainingRandom(std::uint64_t state) : state_(state) {}
  std::uint64_t state() const { return state_; }
  /// In [0, n).
  std::size_t below(std::size_t n) {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<std::size_t>((z ^ (z >> 31)) % n);
  }

 private:
  std::uint64_t state_;
};

/// Tokens and what follows each of them, [batch, context]; -1 where nothing is to be learnt.
struct TrainingBatch {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> targets;
};

/// Stretches of the training text from anywhere, one of eight from the beginning of a paragraph as
/// a prompt begins. The text is longer than `context`.
TrainingBatch draw_batch(const TrainingText& text, std::int64_t batch, std::int64_t context,
                         TrainingRandom& random);

/// Windows [begin, begin + count) of the held-out text, of `context` tokens each, one after
/// another: every token but the first is predicted once. The last window is filled up with targets
/// of -1.
TrainingBatch held_out_windows(const TrainingText& text, std::int64_t begin, std::int64_t count,
                               std::int64_t context);
std::int64_t count_held_out_windows(const TrainingText& text, std::int64_t context);

}  // namespace gqa::examples
