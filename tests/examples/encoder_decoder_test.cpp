// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The hand-made encoder-decoder gives right answers, and gives them because of its weights: with
// the sign of any one of its attention weights turned, an answer is wrong.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "encoder_decoder_model.hpp"

namespace gqa::examples {
namespace {

constexpr Task tasks[] = {{.reverse = false, .upper = false},
                          {.reverse = false, .upper = true},
                          {.reverse = true, .upper = false},
                          {.reverse = true, .upper = true}};

/// Each letter of the alphabet, some twice, in an order that no reversal keeps.
constexpr const char* pangram = "thequickbrownfoxjumpsoverthelazydog";

std::string answer(const WordModel& model, const std::string& word, Task task, Index first) {
  return model.decode(model.encode(word, first), task);
}

/// How many of the four tasks the model gets right for the pangram, written from position 7 on.
int correct_answers(const WordModel& model) {
  int correct = 0;
  for (const Task task : tasks) {
    correct += answer(model, pangram, task, 7) == WordModel::expected(pangram, task);
  }
  return correct;
}

TEST(EncoderDecoder, AnswersForWordsOfEveryLengthAtEveryPosition) {
  const WordModel model;
  std::string word;
  for (Index n = 0; n <= WordModel::max_letters; ++n) {
    for (const Task task : tasks) {
      for (const Index first : {0, 1, 1000}) {
        EXPECT_EQ(answer(model, word, task, first), WordModel::expected(word, task))
            << "reverse " << task.reverse << ", upper " << task.upper << ", from " << first;
      }
    }
    word += static_cast<char>('a' + (n * n + 3 * n) % WordModel::letters);
  }
}

TEST(EncoderDecoder, TheExpectedAnswersAreWrittenCorrectly) {
  EXPECT_EQ(WordModel::expected("stressed", {.reverse = true, .upper = false}), "desserts");
  EXPECT_EQ(WordModel::expected("gqa", {.reverse = true, .upper = true}), "AQG");
  EXPECT_EQ(WordModel::expected("gqa", {}), "gqa");
}

TEST(EncoderDecoder, EveryWeightOfEveryAttentionMatters) {
  WordModel model;
  ASSERT_EQ(correct_answers(model), 4);
  int turned = 0;
  const std::pair<const char*, WordModel::Attention*> layers[] = {
      {"the encoder's attention", &model.encoder_attention},
      {"the decoder's self-attention", &model.self_attention},
      {"cross-attention", &model.cross_attention}};
  for (const auto& [layer, attention] : layers) {
    const std::pair<const char*, WeightMap<float>> matrices[] = {{"wq", attention->wq()},
                                                                 {"wk", attention->wk()},
                                                                 {"wv", attention->wv()},
                                                                 {"wo", attention->wo()}};
    for (const auto& [name, matrix] : matrices) {
      ASSERT_TRUE((matrix.array() != 0).any()) << name << " of " << layer;
      for (Index i = 0; i < matrix.size(); ++i) {
        float& weight = const_cast<float*>(matrix.data())[i];
        if (weight == 0) continue;
        weight = -weight;
        EXPECT_LT(correct_answers(model), 4)
            << name << "(" << i / matrix.cols() << ", " << i % matrix.cols() << ") of " << layer;
        weight = -weight;
        ++turned;
      }
    }
  }
  EXPECT_EQ(correct_answers(model), 4);
  EXPECT_GT(turned, 100);
}

TEST(EncoderDecoder, WordsThatItCannotReadAreRefused) {
  const WordModel model;
  const auto message_of = [&](const std::string& word) -> std::string {
    try {
      model.encode(word);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message_of(std::string(65, 'a')), "a word has at most 64 letters, got 65");
  EXPECT_EQ(message_of("Hello"), "a word is made of letters a … z, got character 72");
}

}  // namespace
}  // namespace gqa::examples
