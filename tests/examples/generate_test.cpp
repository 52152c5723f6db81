// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// generate, run as a program: its text, its figures, and what it says of bad arguments and files.

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <vector>

#include "files.hpp"
#include "program.hpp"

namespace gqa::examples {
namespace {

using test::expect_refusal;
using test::ProgramResult;
using test::run_program;

class Generate : public testing::Test {
 protected:
  void SetUp() override {
    GQA_NEEDS_SHARED_DATA("stories260K/stories260K.bin");
    const auto json =
        nlohmann::json::parse(std::ifstream(test::shared_data("stories260K/greedy.json")));
    prompt = json["cases"][1]["prompt"];
    text = json["cases"][1]["text"];
    ASSERT_EQ(prompt, "Once upon a time");
  }

  static ProgramResult run(std::vector<std::string> options) {
    options.insert(options.begin(), {test::shared_data("stories260K/stories260K.bin").string(),
                                     test::shared_data("stories260K/tok512.bin").string()});
    return run_program(GQA_PROGRAM_example_generate, options);
  }

  /// Runs, expects success, and returns the text without the newline at its end.
  static std::string text_of(const std::vector<std::string>& options) {
    const ProgramResult result = run(options);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_TRUE(result.out.ends_with("\n"));
    return result.out.substr(0, result.out.size() - 1);
  }

  std::string prompt;
  std::string text;
};

TEST_F(Generate, WritesTheTextOfLlama2c) {
  EXPECT_EQ(text_of({"--prompt", prompt, "--steps", "256"}), text);
  EXPECT_EQ(text_of({}), text) << "256 steps from an empty prompt give the same";
  EXPECT_EQ(text_of({"--prompt", ""}), text);
}

TEST_F(Generate, ThreadsAndSixteenBitCachesKeepTheText) {
  EXPECT_EQ(text_of({"--prompt", prompt, "--threads", "3"}), text);
  EXPECT_EQ(text_of({"--prompt", prompt, "--kv-dtype", "f16"}), text);
  EXPECT_EQ(text_of({"--prompt", prompt, "--kv-dtype", "bf16"}), text);
}

TEST_F(Generate, StepsCountThePromptsTokensToo) {
  // The prompt is 5 tokens with begin of sequence: "Once", " upon", " a", " time"
  EXPECT_EQ(text_of({"--prompt", prompt, "--steps", "1"}), "Once");
  EXPECT_EQ(text_of({"--prompt", prompt, "--steps", "2"}), "Once upon");
  EXPECT_EQ(text_of({"--prompt", prompt, "--steps", "4"}), "Once upon a time");
  EXPECT_EQ(text_of({"--prompt", prompt, "--steps", "5"}), "Once upon a time,");
  EXPECT_EQ(text_of({"--prompt", prompt, "--steps", "6"}), "Once upon a time, there");
  const std::string longest = text_of({"--prompt", prompt, "--steps", "0"});
  EXPECT_TRUE(longest.starts_with(text));
  EXPECT_EQ(longest, text_of({"--prompt", prompt, "--steps", "512"}));
}

TEST_F(Generate, SaysHowFastItWasAndWhatTheCacheTook) {
  const ProgramResult result = run({"--prompt", prompt, "--steps", "100"});
  EXPECT_TRUE(std::regex_search(result.err, std::regex("prompt: 5 tokens, [0-9.e+]+ tokens/s")));
  EXPECT_TRUE(std::regex_search(result.err, std::regex("decode: 95 tokens, [0-9.e+]+ tokens/s")));
  std::smatch bytes;
  const std::regex figures(R"(KV cache: ([0-9]+) bytes \(f32, 5 layers, 100 of 100 tokens\))");
  ASSERT_TRUE(std::regex_search(result.err, bytes, figures)) << result.err;
  // 5 layers of 4 heads of 8 + 8 numbers of 4 bytes, in blocks of 64 tokens, perhaps padded
  const long f32_bytes = std::stol(bytes[1]);
  EXPECT_GE(f32_bytes, 5 * 4 * 16 * 4 * 100);
  EXPECT_LE(f32_bytes, 5 * 4 * 16 * 4 * 128 * 4);
  long more = f32_bytes;
  for (const std::string dtype : {"f16", "int8", "int4"}) {
    const ProgramResult fewer = run({"--prompt", prompt, "--steps", "100", "--kv-dtype", dtype});
    const std::regex its_figures("KV cache: ([0-9]+) bytes \\(" + dtype);
    ASSERT_TRUE(std::regex_search(fewer.err, bytes, its_figures)) << fewer.err;
    EXPECT_LT(std::stol(bytes[1]), more) << dtype;
    more = std::stol(bytes[1]);
  }
}

TEST_F(Generate, SamplesAsTheSeedSays) {
  const auto sample = [&](const std::string& seed, const std::string& top_p = "0.9") {
    return text_of({"--prompt", prompt, "--steps", "60", "--temperature", "1", "--top-p", top_p,
                    "--seed", seed});
  };
  const std::string one = sample("7");
  EXPECT_TRUE(one.starts_with(prompt));
  EXPECT_EQ(sample("7"), one);
  EXPECT_NE(sample("8"), one);
  EXPECT_NE(sample("7", "1"), sample("9", "1"));
}

TEST_F(Generate, TextOutsideOfTheVocabularyComesBackUnharmed) {
  const std::string unusual = "caf\xC3\xA9 \xE2\x82\xAC 5 \xF0\x9F\x98\x80 Once";
  EXPECT_TRUE(text_of({"--prompt", unusual, "--steps", "60"}).starts_with(unusual));
}

TEST_F(Generate, RefusesBadArguments) {
  expect_refusal(run_program(GQA_PROGRAM_example_generate, {"model.bin"}),
                 {"CHECKPOINT requires TOKENIZER"});
  expect_refusal(run({"--no-such-option"}), {"--no-such-option"});
  expect_refusal(run({"one more"}), {"one more"});
  expect_refusal(run({"--steps", "-1"}), {"--steps"});
  expect_refusal(run({"--steps", "many"}), {"--steps", "many"});
  expect_refusal(run({"--steps", "513"}), {"--steps 513", "512 tokens"});
  expect_refusal(run({"--temperature", "-1"}), {"temperature -1"});
  expect_refusal(run({"--temperature", "nan"}), {"temperature"});
  expect_refusal(run({"--top-p", "2"}), {"top_p 2"});
  expect_refusal(run({"--seed", "0"}), {"seed 0"});
  expect_refusal(run({"--seed", "18446744073709551616"}), {"--seed", "18446744073709551615"});
  expect_refusal(run({"--seed", "-1"}), {"--seed", "-1"});
  expect_refusal(run({"--kv-dtype", "f8"}), {"--kv-dtype", "f8"});
  expect_refusal(run({"--threads", "0"}), {"--threads"});
  EXPECT_EQ(run_program(GQA_PROGRAM_example_generate, {"--help"}).status, 0);
}

TEST_F(Generate, RefusesBadFiles) {
  const test::TemporaryFolder folder;
  const auto model = test::shared_data("stories260K/stories260K.bin").string();
  const auto tokenizer = test::shared_data("stories260K/tok512.bin").string();
  const auto with = [&](const std::string& checkpoint, const std::string& tokens) {
    return run_program(GQA_PROGRAM_example_generate, {checkpoint, tokens, "--steps", "3"});
  };
  expect_refusal(with("/no/such/model.bin", tokenizer), {"generate: /no/such/model.bin: byte 0"});
  expect_refusal(with(model, "/no/such/tok.bin"), {"generate: /no/such/tok.bin: byte 0"});
  expect_refusal(with(tokenizer, tokenizer), {"tok512.bin: byte "});
  expect_refusal(with(model, model), {"stories260K.bin: byte "});
  expect_refusal(with(folder.path().string(), tokenizer), {"not a regular file"});

  const std::string bytes = test::read_bytes(model);
  const auto truncated = folder.file("truncated.bin", bytes.substr(0, 500000));
  expect_refusal(with(truncated.string(), tokenizer),
                 {"truncated.bin: byte 500000", "1056540", "500000"});
  std::string corrupted = bytes;
  corrupted[16] = 3;  // n_kv_heads
  expect_refusal(with(folder.file("corrupted.bin", corrupted).string(), tokenizer),
                 {"corrupted.bin: byte 16", "n_kv_heads 3 does not divide n_heads 8"});
  corrupted = bytes;
  corrupted[23] = '\x40';  // vocab_size, 2^30 and 512
  expect_refusal(with(folder.file("huge.bin", corrupted).string(), tokenizer),
                 {"huge.bin: byte 1056540", "the file has 1056540"});
  const auto short_tokenizer =
      folder.file("short.bin", test::read_bytes(tokenizer).substr(0, 3000));
  expect_refusal(with(model, short_tokenizer.string()), {"short.bin: byte ", "ends inside token"});

  std::string poisoned = bytes;  // not a number among the weights: noticed when it reaches a logit
  poisoned.replace(28, 4, "\xFF\xFF\xFF\x7F");
  const ProgramResult result = with(folder.file("nan.bin", poisoned).string(), tokenizer);
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("isn't finite"), std::string::npos) << result.err;
}

TEST(GenerateWithoutFiles, WritesShakespeareWithTheModelInTheRepository) {
  const auto write = [](std::vector<std::string> options) {
    options.insert(options.end(), {"--prompt", "ROMEO:", "--steps", "120"});
    const ProgramResult result = run_program(GQA_PROGRAM_example_generate, options);
    EXPECT_EQ(result.status, 0) << result.err;
    // 4 layers of 2 KV heads of 16 + 16 numbers
    EXPECT_NE(result.err.find("(f32, 4 layers, 120 of 120 tokens)"), std::string::npos)
        << result.err;
    return result.out;
  };
  const std::string text = write({});
  EXPECT_TRUE(text.starts_with("ROMEO:\n")) << text;
  // Common words say that it has learnt to spell: an untrained model writes none of them.
  int common = 0;
  for (const char* word : {" the ", " to ", " of ", " and ", " my ", " I ", " that ", " you "}) {
    common += text.find(word) != std::string::npos;
  }
  EXPECT_GE(common, 2) << text;
  EXPECT_NE(write({"--temperature", "0.8"}), text);
}

}  // namespace
}  // namespace gqa::examples
