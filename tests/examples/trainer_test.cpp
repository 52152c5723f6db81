// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A training run: what it reads of a text, that it goes on exactly where it stopped, and `train`
// itself, the result of which `generate`'s readers take.

#include "llama/trainer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "files.hpp"
#include "program.hpp"

namespace gqa::examples {
namespace {

using test::expect_error;
using test::read_bytes;
using test::TemporaryFolder;

/// Paragraphs of a language of few words.
std::string small_text(std::size_t bytes) {
  std::string text;
  std::uint32_t state = 7;
  while (text.size() < bytes) {
    constexpr std::string_view words[] = {"one ", "two ", "three ", "four\n", "five.\n\n"};
    state = state * 1664525 + 1013904223;
    text += words[(state >> 24) % 5];
  }
  text.resize(bytes);
  return text;
}

constexpr LlamaConfig tiny{.hidden_size = 16,
                           .intermediate_size = 24,
                           .num_layers = 2,
                           .num_heads = 4,
                           .num_kv_heads = 2,
                           .vocab_size = byte_vocab_size,
                           .max_len = 24};

TrainingOptions some_steps(std::int64_t steps) {
  TrainingOptions options;
  options.batch = 3;
  options.context = 24;
  options.steps = steps;
  options.learning_rate = 0.01;
  return options;
}

std::vector<float> all_weights(const Trainer& trainer) {
  const CheckpointWeights weights = trainer.weights();
  std::vector<float> all;
  const auto add = [&](std::span<const float> w) { all.insert(all.end(), w.begin(), w.end()); };
  add(weights.token_embedding);
  for (const auto& layer : weights.layers) {
    for (const auto& w : {layer.wq, layer.wk, layer.wv, layer.wo, layer.w1, layer.w2, layer.w3,
                          layer.attention_norm, layer.feed_forward_norm}) {
      add(w);
    }
  }
  add(weights.final_norm);
  return all;
}

TEST(TrainingText, HoldsOutTheLastTenthAndFindsParagraphs) {
  const TrainingText text = TrainingText::of_bytes("ab\n\ncdefgh\n\nijklmn");  // 18 bytes
  const auto bytes = [](const std::vector<std::int32_t>& tokens) {
    std::string result;
    for (const auto token : tokens) result += static_cast<char>(token - Tokenizer::first_byte);
    return result;
  };
  EXPECT_EQ(bytes(text.training), "ab\n\ncdefg");
  EXPECT_EQ(bytes(text.held_out), "h\n\nijklmn");
  EXPECT_EQ(text.held_out_bytes, 9);
  EXPECT_EQ(text.paragraphs, (std::vector<std::size_t>{0, 4}));
  // Each held-out byte but the first is predicted once, whatever the windows.
  for (const std::int64_t context : {2, 3, 8, 20}) {
    const auto windows = count_held_out_windows(text, context);
    const TrainingBatch all = held_out_windows(text, 0, windows, context);
    ASSERT_EQ(std::ssize(all.tokens), windows * context);
    std::vector<std::int32_t> targets;
    std::ranges::copy_if(all.targets, std::back_inserter(targets), [](auto t) { return t >= 0; });
    EXPECT_EQ(bytes(targets), "\n\nijklmn") << context;
  }
  expect_error<std::invalid_argument>([] { TrainingText::of_bytes("too short"); }, {"9 bytes"});
}

TEST(TrainingText, BatchesAreStretchesOfTheTextOrParagraphsAsPromptsBegin) {
  const TrainingText text = TrainingText::of_bytes(small_text(2000));
  TrainingRandom random(1);
  const TrainingBatch batch = draw_batch(text, 200, 10, random);
  ASSERT_EQ(batch.tokens.size(), 2000U);
  int beginnings = 0;
  for (std::size_t b = 0; b < 2000; b += 10) {
    for (std::size_t i = b; i + 1 < b + 10; ++i) ASSERT_EQ(batch.tokens[i + 1], batch.targets[i]);
    std::size_t from = 0;
    if (batch.tokens[b] == Tokenizer::begin_of_sequence) {
      ++beginnings;
      EXPECT_EQ(batch.tokens[b + 1], Tokenizer::first_byte + ' ');
      from = 2;
    }
    const auto begin = batch.tokens.begin() + static_cast<std::ptrdiff_t>(b + from);
    const auto end = batch.tokens.begin() + static_cast<std::ptrdiff_t>(b + 10);
    EXPECT_NE(std::search(text.training.begin(), text.training.end(), begin, end),
              text.training.end());
  }
  EXPECT_GT(beginnings, 10);
  EXPECT_LT(beginnings, 50);
}

TEST(Trainer, GoesOnFromItsStateWithTheSameBits) {
  const TrainingText text = TrainingText::of_bytes(small_text(3000));
  const TemporaryFolder folder;
  const auto state = folder.path() / "state";
  Trainer whole(tiny, some_steps(12), text, 1);
  const double first = whole.held_out_loss();
  for (int i = 0; i < 7; ++i) whole.step();
  whole.save(state);
  // One thread wrote the state, two go on.
  Trainer resumed(state, text, 2);
  EXPECT_EQ(resumed.steps(), 7);
  EXPECT_EQ(all_weights(resumed), all_weights(whole));
  while (!whole.finished()) {
    ASSERT_FALSE(resumed.finished());
    ASSERT_EQ(resumed.step(), whole.step());
  }
  EXPECT_TRUE(resumed.finished());
  EXPECT_EQ(whole.steps(), 12);
  EXPECT_EQ(all_weights(resumed), all_weights(whole));
  EXPECT_EQ(resumed.smooth_loss(), whole.smooth_loss());
  EXPECT_EQ(resumed.held_out_loss(), whole.held_out_loss());
  EXPECT_LT(whole.held_out_loss(), first - 0.5);
  // Its weights in a new run, with a new optimizer.
  Trainer next(whole.weights(), some_steps(1), text, 1);
  EXPECT_EQ(next.held_out_loss(), whole.held_out_loss());
}

TEST(Trainer, RefusesStatesThatAreDamagedOrOfAnotherText) {
  const TrainingText text = TrainingText::of_bytes(small_text(3000));
  const TemporaryFolder folder;
  const auto state = folder.path() / "state";
  Trainer trainer(tiny, some_steps(3), text, 1);
  trainer.step();
  trainer.save(state);
  const std::string bytes = read_bytes(state);
  const auto refused = [&](std::string damaged, std::initializer_list<std::string_view> parts) {
    const auto path = folder.file("damaged", damaged);
    expect_error<std::runtime_error>([&] { Trainer(path, text, 1); }, parts);
  };
  for (const std::size_t at : {std::size_t(20), bytes.size() / 2, bytes.size() - 1}) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    refused(damaged, {"damaged: byte " + std::to_string(bytes.size() - 8), "checksum"});
  }
  for (const std::size_t size : {std::size_t(0), std::size_t(17), bytes.size() - 4}) {
    refused(bytes.substr(0, size), {"damaged: byte "});
  }
  refused("not a state of anything", {"not the state of a training run"});
  const TrainingText other = TrainingText::of_bytes(small_text(3010));
  expect_error<std::runtime_error>([&] { Trainer(state, other, 1); }, {"state", "another text"});
  expect_error<std::runtime_error>([&] { Trainer(folder.path() / "none", text, 1); }, {"none"});
}

TEST(Trainer, RefusesOptionsThatMakeNoRun) {
  const TrainingText text = TrainingText::of_bytes(small_text(3000));
  const auto refused = [&](LlamaConfig config, TrainingOptions options, std::string_view part) {
    expect_error<std::invalid_argument>([&] { Trainer(config, options, text, 1); }, {part});
  };
  refused(tiny, some_steps(0), "a number of steps or of minutes");
  TrainingOptions options = some_steps(1);
  options.context = 25;
  refused(tiny, options, "a context of 25 tokens is more than the model's 24");
  options = some_steps(1);
  options.batch = 0;
  refused(tiny, options, "a batch of 0");
  LlamaConfig config = tiny;
  config.vocab_size = 512;
  refused(config, some_steps(1), "the model has a vocabulary of 512, the text of 259");
  config = tiny;
  config.num_kv_heads = 3;
  refused(config, some_steps(1), "num_kv_heads 3 does not divide num_heads 4");
}

class Train : public testing::Test {
 protected:
  test::ProgramResult run(std::vector<std::string> options) const {
    options.insert(options.begin(), {text, (folder.path() / "model.bin").string()});
    return test::run_program(GQA_PROGRAM_example_train, options);
  }
  const TemporaryFolder folder;
  const std::string text = folder.file("text.txt", small_text(4000)).string();
  const std::vector<std::string> tiny_run = {"--dim",      "16", "--layers",  "2",  "--heads", "4",
                                             "--kv-heads", "2",  "--context", "32", "--batch", "2"};
};

TEST_F(Train, WritesACheckpointAndItsTokenizer) {
  auto options = tiny_run;
  options.insert(options.end(), {"--steps", "8", "--lr", "0.01", "--threads", "2"});
  const auto result = run(options);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(result.out.starts_with("held-out loss: ")) << result.out;
  EXPECT_NE(result.out.find("steps: 8 of 64 tokens"), std::string::npos) << result.out;
  const Checkpoint checkpoint(folder.path() / "model.bin");
  EXPECT_EQ(checkpoint.config().num_kv_heads, 2);
  EXPECT_EQ(checkpoint.config().intermediate_size, 48);
  EXPECT_EQ(checkpoint.config().max_len, 32);
  const Tokenizer tokenizer(folder.path() / "model.tokenizer.bin", checkpoint.config().vocab_size);
  EXPECT_EQ(tokenizer.encode("ab").size(), 4U);
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "model.bin.state")) << "it has ended";
}

TEST_F(Train, LearnsTheTokensOfATokenizer) {
  const auto tokenizer = folder.path() / "tokens.bin";
  write_byte_tokenizer(tokenizer);
  auto options = tiny_run;
  options.insert(options.end(), {"--steps", "2", "--tokenizer", tokenizer.string()});
  const auto result = run(options);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "model.tokenizer.bin")) << "it has one";
  EXPECT_EQ(Checkpoint(folder.path() / "model.bin").config().vocab_size, byte_vocab_size);
}

TEST_F(Train, KeepsItsStateWhenInterruptedAndGoesOn) {
  // timeout(1) ends it as Ctrl-C does, long before its ten million steps.
  std::vector<std::string> options = {
      "-s", "INT", "0.5", GQA_PROGRAM_example_train, text, (folder.path() / "model.bin").string()};
  options.insert(options.end(), tiny_run.begin(), tiny_run.end());
  options.insert(options.end(), {"--steps", "10000000"});
  const auto interrupted = test::run_program("timeout", options);
  EXPECT_NE(interrupted.err.find("interrupted at step "), std::string::npos) << interrupted.err;
  ASSERT_TRUE(std::filesystem::exists(folder.path() / "model.bin.state"));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "model.bin"));

  const auto text_now = TrainingText::of_bytes(small_text(4000));
  const Trainer state(folder.path() / "model.bin.state", text_now, 1);
  EXPECT_GT(state.steps(), 0);
  EXPECT_EQ(state.options().steps, 10000000);
  options[2] = "0.3";
  options.push_back("--resume");
  const auto again = test::run_program("timeout", options);
  EXPECT_NE(again.err.find("goes on at step " + std::to_string(state.steps())), std::string::npos)
      << again.err;
  EXPECT_GT(Trainer(folder.path() / "model.bin.state", text_now, 1).steps(), state.steps());
}

TEST_F(Train, RefusesBadArguments) {
  test::expect_refusal(run({"--resume"}), {"train: ", "model.bin.state"});
  test::expect_refusal(run({"--preset", "large"}), {"--preset"});
  test::expect_refusal(run({"--steps", "0"}), {"--steps"});
  test::expect_refusal(run({"--kv-heads", "5", "--steps", "1"}), {"num_kv_heads 5", "8"});
  test::expect_refusal(test::run_program(GQA_PROGRAM_example_train, {"/no/such.txt", "out.bin"}),
                       {"train: /no/such.txt: byte 0"});
  test::expect_refusal(run({"--lr", "nan"}), {"--lr"});
  test::expect_refusal(run({"--seed", "18446744073709551616"}), {"--seed"});
  // No text is written over, whichever of the outputs has its name.
  const std::string before = test::read_bytes(text);
  for (const char* name : {"text.txt", "x.state", "x.tokenizer.bin"}) {
    const auto input = folder.path() / name, out = folder.path() / (name[0] == 'x' ? "x" : name);
    if (!std::filesystem::exists(input)) std::filesystem::create_symlink(text, input);
    test::expect_refusal(
        test::run_program(GQA_PROGRAM_example_train, {input.string(), out.string()}),
        {"train: ", "is the input, " + input.string()});
  }
  EXPECT_EQ(test::read_bytes(text), before);
}

}  // namespace
}  // namespace gqa::examples
