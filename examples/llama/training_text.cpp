// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "llama/training_text.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace gqa::examples {
namespace {

/// The first nine tenths of a text are learnt from.
std::size_t training_bytes(std::string_view text) {
  const std::size_t bytes = text.size() / 10 * 9;
  if (bytes == 0) {
    throw std::invalid_argument("a text of " + std::to_string(text.size()) +
                                " bytes is too short to hold a tenth of it out");
  }
  return bytes;
}

/// Calls fn(paragraph) for the stretches of a text that end with an empty line.
template <typename F>
void for_each_paragraph(std::string_view text, F fn) {
  while (!text.empty()) {
    const std::size_t gap = text.find("\n\n");
    const std::size_t size = gap == std::string_view::npos ? text.size() : gap + 2;
    fn(text.substr(0, size));
    text.remove_prefix(size);
  }
}

}  // namespace

TrainingText TrainingText::of_bytes(std::string_view text) {
  const std::size_t size = training_bytes(text);
  TrainingText result;
  result.vocab_size = byte_vocab_size;
  const auto append = [](std::vector<Token>& tokens, std::string_view bytes) {
    for (const char c : bytes) {
      tokens.push_back(Tokenizer::first_byte + static_cast<unsigned char>(c));
    }
  };
  for_each_paragraph(text.substr(0, size), [&](std::string_view paragraph) {
    result.paragraphs.push_back(result.training.size());
    append(result.training, paragraph);
  });
  result.before_paragraph = {Tokenizer::begin_of_sequence, Tokenizer::first_byte + ' '};
  append(result.held_out, text.substr(size));
  result.held_out_bytes = static_cast<std::int64_t>(text.size() - size);
  return result;
}

TrainingText TrainingText::of_tokens(std::string_view text, const Tokenizer& tokenizer) {
  const std::size_t size = training_bytes(text);
  TrainingText result;
  result.vocab_size = tokenizer.vocab_size();
  for_each_paragraph(text.substr(0, size), [&](std::string_view paragraph) {
    result.paragraphs.push_back(result.training.size());
    const auto tokens = tokenizer.encode(paragraph);
    result.training.insert(result.training.end(), tokens.begin(), tokens.end());
  });
  for_each_paragraph(text.substr(size), [&](std::string_view paragraph) {
    const auto tokens = tokenizer.encode(paragraph);
    result.held_out.insert(result.held_out.end(), tokens.begin(), tokens.end());
  });
  result.held_out_bytes = static_cast<std::int64_t>(text.size() - size);
  return result;
}

std::uint64_t TrainingText::fingerprint() const {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const auto* tokens : {&training, &held_out}) {
    for (const Token token : *tokens) {
      hash = (hash ^ static_cast<std::uint64_t>(token)) * 0x100000001b3u;
    }
  }
  return hash;
}

TrainingBatch draw_batch(const TrainingText& text, std::int64_t batch, std::int64_t context,
                         TrainingRandom& random) {
  const auto length = static_cast<std::size_t>(context);
  TrainingBatch result;
  std::vector<std::int32_t> sequence;
  for (std::int64_t b = 0; b < batch; ++b) {
    sequence.clear();
    std::size_t begin = 0;
    if (random.below(8) == 0) {
      begin = text.paragraphs[random.below(text.paragraphs.size())];
      sequence = text.before_paragraph;
    } else {
      begin = random.below(text.training.size() - length);
    }
    begin = std::min(begin, text.training.size() - length - 1);
    const std::size_t missing = length + 1 - sequence.size();
    const auto from = text.training.begin() + static_cast<std::ptrdiff_t>(begin);
    sequence.insert(sequence.end(), from, from + static_cast<std::ptrdiff_t>(missing));
    result.tokens.insert(result.tokens.end(), sequence.begin(), sequence.end() - 1);
    result.targets.insert(result.targets.end(), sequence.begin() + 1, sequence.end());
  }
  return result;
}

std::int64_t count_held_out_windows(const TrainingText& text, std::int64_t context) {
  return (std::ssize(text.held_out) - 1 + context - 1) / context;
}

TrainingBatch held_out_windows(const TrainingText& text, std::int64_t begin, std::int64_t count,
                               std::int64_t context) {
  TrainingBatch result;
  const auto size = std::ssize(text.held_out);
  for (std::int64_t i = begin * context; i < (begin + count) * context; ++i) {
    const bool inside = i + 1 < size;
    result.tokens.push_back(inside ? text.held_out[static_cast<std::size_t>(i)] : 0);
    result.targets.push_back(inside ? text.held_out[static_cast<std::size_t>(i) + 1] : -1);
  }
  return result;
}

}  // namespace gqa::examples
