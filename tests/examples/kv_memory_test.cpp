// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// kv_memory, run as a program, and the models that it knows.

#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "program.hpp"
#include "support/model_shapes.hpp"

namespace gqa::examples {
namespace {

using test::expect_refusal;
using test::ProgramResult;
using test::run_program;

ProgramResult run(const std::vector<std::string>& arguments) {
  return run_program(GQA_PROGRAM_example_kv_memory, arguments);
}
/// The line of a model with so many KV heads, words joined by single spaces.
std::string line_of(const std::string& out, const std::string& model, const std::string& kv_heads) {
  std::istringstream lines(out);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string text, word;
    while (words >> word) text += (text.empty() ? "" : " ") + word;
    if (text.starts_with(model + " ") && text.find(" " + kv_heads + " ") == model.size() + 4) {
      return text;
    }
  }
  return "no line";
}

/// What the models' authors count.
TEST(ModelShapes, HaveThePublishedNumberOfWeights) {
  const std::map<std::string_view, Index> published{
      {"Llama-2-7B", 6'738'415'616}, {"Llama-2-70B", 68'976'648'192},
      {"Llama-3-8B", 8'030'261'248}, {"Llama-3-70B", 70'553'706'496},
      {"Mistral-7B", 7'241'732'096}, {"Falcon-7B", 6'921'720'704},
      {"Qwen2.5-7B", 7'615'616'512}, {"Gemma-2-9B", 9'241'705'984},
      {"T5-XXL", 11'135'332'352},
  };
  EXPECT_EQ(published.size(), std::size(model_shapes));
  for (const ModelShape& model : model_shapes) {
    ASSERT_TRUE(published.contains(model.name)) << model.name;
    EXPECT_EQ(model.parameters(model.num_kv_heads), published.at(model.name)) << model.name;
  }
}

TEST(KvMemoryProgram, TablesEachModelAsMhaGqaAndMqa) {
  const ProgramResult result = run({"--memory", "24GiB"});
  ASSERT_EQ(result.status, 0) << result.err;
  // 2 · 32 layers · 8 heads · 128 · 2 bytes = 128 KiB a token; weights of 14.96 GiB leave 9.04.
  EXPECT_EQ(line_of(result.out, "Llama-3-8B", "8*"),
            "Llama-3-8B GQA 8* 14.96 128.0 1.000 6.3 % 81728 183808 74048 (38 %)");
  EXPECT_EQ(line_of(result.out, "Llama-3-8B", "32"),
            "Llama-3-8B MHA 32 16.46 512.0 4.000 19.6 % 22528 50560 15424 (31 %)");
  EXPECT_EQ(line_of(result.out, "Llama-3-70B", "1"),
            "Llama-3-70B MQA 1 129.23 40.0 0.312 0.2 % 2258496 5081536 weights don't fit");
  EXPECT_TRUE(line_of(result.out, "Mistral-7B", "8*").ends_with("never never no limit"));
  EXPECT_EQ(line_of(result.out, "Falcon-7B", "1*"),
            "Falcon-7B MQA 1* 12.89 8.0 0.062 0.5 % 1126592 2534848 1455808 (46 %)");
  for (const char* kv_heads : {"64*", "8", "1"}) {
    EXPECT_NE(line_of(result.out, "T5-XXL", kv_heads), "no line") << kv_heads;
  }
}

/// The longest context fits; a block more of each sequence doesn't.
TEST(KvMemoryProgram, FindsTheLongestContext) {
  for (const ModelShape& model : model_shapes) {
    if (model.windowed_layers == model.num_layers) continue;
    const ProgramResult result =
        run({"--memory", "200GB", "--batch", "3", "--kv-dtype", "int8", "--bytes-per-weight", "1",
             "--model", std::string(model.name)});
    ASSERT_EQ(result.status, 0) << result.err;
    const std::string line =
        line_of(result.out, std::string(model.name), std::to_string(model.num_kv_heads) + "*");
    const std::string last = line.substr(0, line.rfind(" ("));
    const Index tokens = std::stol(last.substr(last.rfind(' ')));
    const auto total = [&](Index context) {
      return static_cast<double>(model.parameters(model.num_kv_heads)) +
             model.kv_bytes(model.num_kv_heads, Dtype::int8, context, 3);
    };
    EXPECT_LE(total(tokens), 200e9) << line;
    EXPECT_GT(total(tokens + 64), 200e9) << line;
  }
}

/// 2^20 sequences of up to 2^34 tokens: more bytes than 63 bits count.
TEST(KvMemoryProgram, CountsHugeBatches) {
  const ProgramResult result =
      run({"--batch", "1048576", "--memory", "24GiB", "--kv-dtype", "f32"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out.find(" -"), std::string::npos) << result.out;
}

TEST(KvMemoryProgram, SaysWhatIsWrong) {
  expect_refusal(run({"--memory", "16 GiX"}), {"--memory 16 GiX", "as in 16GiB"});
  expect_refusal(run({"--memory", "-1GiB"}), {"--memory -1GiB"});
  expect_refusal(run({"--model", "Llama-9"}), {"--model Llama-9 is not in the table"});
  expect_refusal(run({"--kv-dtype", "int3"}), {"--kv-dtype"});
  expect_refusal(run({"--context", "0"}), {"--context"});
  expect_refusal(run({"--model", ""}), {"--model"});
  expect_refusal(run({"--memory", ""}), {"--memory"});
  expect_refusal(run({"--bytes-per-weight", "nan"}), {"--bytes-per-weight"});
  expect_refusal(run({"--batch", "18446744073709551617"}), {"--batch"});
}

}  // namespace
}  // namespace gqa::examples
