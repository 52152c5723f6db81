// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
//   encoder_decoder [WORD...]
//
// Copies and reverses words with an encoder of multi-head attention and a decoder of grouped-query
// attention, whose weights encoder_decoder_model.hpp sets and explains. Then does so with 2000
// random words of every length; exits with 1 if a single letter is wrong.
#include <cstdio>
#include <random>

#include "encoder_decoder_model.hpp"
#include "support/program.hpp"

namespace {

using gqa::Index;
using gqa::examples::Task;
using gqa::examples::WordModel;

std::string name(Task task) {
  return std::string(task.reverse ? "reverse" : "copy") + (task.upper ? " UPPER" : " lower");
}

/// Letters at random, 0 … max_letters of them.
std::string random_word(std::mt19937& random) {
  const auto below = [&](Index n) { return static_cast<Index>(random()) % n; };
  std::string word(static_cast<std::size_t>(below(WordModel::max_letters + 1)), ' ');
  for (char& c : word) c = static_cast<char>('a' + below(WordModel::letters));
  return word;
}

int run(std::vector<std::string> words) {
  const WordModel model;
  if (words.empty()) words = {"attention", "stressed", "a"};
  int asked = 0, correct = 0;
  const auto check = [&](const std::string& word, const std::string& answer, Task task) {
    ++asked;
    correct += answer == WordModel::expected(word, task);
  };

  for (const std::string& word : words) {
    const auto memory = model.encode(word);
    for (const Task task : {Task{.reverse = false, .upper = true}, Task{.reverse = true}}) {
      const std::string answer = model.decode(memory, task);
      std::printf("%-13s %s -> %s\n", name(task).c_str(), word.c_str(), answer.c_str());
      check(word, answer, task);
    }
  }

  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    const std::string word = random_word(random);
    const Task task{.reverse = random() % 2 == 1, .upper = random() % 2 == 1};
    const Index first =
        static_cast<Index>(random() % 100);  // where in its sequence the word stands
    check(word, model.decode(model.encode(word, first), task), task);
  }
  std::printf("%d of %d correct\n", correct, asked);
  return correct == asked ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  return gqa::examples::run_program("encoder_decoder", [&] {
    return run({argv + 1, argv + argc});
  });
}
