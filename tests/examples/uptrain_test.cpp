// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The recipe from a multi-head model to grouped heads, on a model of seconds: what it writes, and
// that a second start goes on where the first stopped.

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "files.hpp"
#include "program.hpp"

namespace gqa::examples {
namespace {

using nlohmann::json;
using test::read_bytes;
using test::run_program;

std::string rhyme() {
  std::string text;
  for (int i = 0; text.size() < 4000; ++i) {
    text += std::to_string(i % 7) + " green bottles hanging on the wall\n" + (i % 3 ? "" : "\n");
  }
  return text;
}

class Uptrain : public testing::Test {
 protected:
  /// Runs with options of seconds, some of them replaced by others.
  test::ProgramResult run(const std::string& out,
                          const std::map<std::string, std::string>& replaced = {}) const {
    std::map<std::string, std::string> options = {
        {"--steps", "40"},   {"--dim", "16"},        {"--layers", "2"},        {"--heads", "4"},
        {"--context", "32"}, {"--batch", "2"},       {"--kv-heads", "2,1"},    {"--alpha", "0,0.5"},
        {"--lr", "0.003"},   {"--calibration", "2"}, {"--methods", "mean,fit"}};
    for (const auto& [name, value] : replaced) options[name] = value;
    std::vector<std::string> arguments = {text, path(out)};
    for (const auto& [name, value] : options) arguments.insert(arguments.end(), {name, value});
    return run_program(GQA_PROGRAM_example_uptrain, arguments);
  }
  std::string path(const std::string& name) const { return (folder.path() / name).string(); }
  json results(const std::string& out) const {
    return json::parse(read_bytes(folder.path() / out / "results.json"));
  }

  const test::TemporaryFolder folder;
  const std::string text = folder.file("text.txt", rhyme()).string();
};

TEST_F(Uptrain, GoesFromMultiHeadToFewerHeadsBesideTheControl) {
  const auto result = run("runs", {{"--seeds", "1,2"}});
  ASSERT_EQ(result.status, 0) << result.err;
  std::map<std::pair<std::string, int>, int> seen;
  const json all = results("runs");
  for (const json& one : all["runs"]) {
    ++seen[{one["method"], one["num_kv_heads"]}];
    ASSERT_EQ(one["points"].size(), 2U);
    EXPECT_EQ(one["points"][0]["steps"], 0);
    EXPECT_EQ(one["points"][1]["steps"], 20);  // half of 40
    const double before = one["points"][0]["loss"], after = one["points"][1]["loss"];
    EXPECT_LT(after, before) << one;
    EXPECT_GT(before, 1.0) << one;
    EXPECT_LT(before, 5.6) << one;
    EXPECT_GT(one["seconds_per_step"], 0.0);
    EXPECT_GT(one["decode_seconds"], 0.0);
  }
  const std::map<std::pair<std::string, int>, int> expected = {
      {{"control", 4}, 2}, {{"mean", 2}, 2}, {{"fit", 2}, 2}, {{"mean", 1}, 2}, {{"fit", 1}, 2}};
  EXPECT_EQ(seen, expected);
  for (const char* part : {"mean of 2 seeds", "control         4", "fit             1"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << result.out;
  }
}

TEST_F(Uptrain, GoesOnWhereAnEarlierStartStopped) {
  ASSERT_EQ(run("whole").status, 0);
  // A start that has come as far as its second run, and one that was ended while it trained the
  // base.
  ASSERT_EQ(run("parts").status, 0);
  const auto seed = folder.path() / "parts" / "seed1";
  for (const char* lost : {"mean-2.json", "fit-2.json", "mean-1.json", "fit-1.json"}) {
    ASSERT_TRUE(std::filesystem::remove(seed / lost));
  }
  const std::string base = read_bytes(seed / "base.bin"),
                    control = read_bytes(seed / "control-4.json");
  EXPECT_EQ(read_bytes(folder.path() / "whole/seed1/base.bin"), base);
  const auto again = run("parts");
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(read_bytes(seed / "control-4.json"), control) << "finished runs stay";
  EXPECT_EQ(again.err.find("base"), std::string::npos) << again.err;
  const json whole = results("whole"), parts = results("parts");
  for (std::size_t i = 0; i < 5; ++i) {
    for (const std::size_t point : {0U, 1U}) {
      EXPECT_EQ(parts["runs"][i]["points"][point]["loss"],
                whole["runs"][i]["points"][point]["loss"])
          << i;
    }
  }
}

TEST_F(Uptrain, InterruptedWhileItTrainsTheBaseItKeepsTheState) {
  const auto result = run_program(
      "timeout", {"-s", "INT", "0.5", GQA_PROGRAM_example_uptrain, text, path("runs"), "--steps",
                  "10000000", "--dim", "16", "--layers", "2", "--heads", "4", "--context", "32"});
  EXPECT_NE(result.err.find("interrupted at step "), std::string::npos) << result.err;
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "runs/seed1/base.state"));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "runs/seed1/base.bin"));
}

TEST_F(Uptrain, RefusesAFolderOfOtherRunsAndBadArguments) {
  ASSERT_EQ(run("runs", {{"--methods", "mean"}, {"--kv-heads", "2"}}).status, 0);
  test::expect_refusal(run("runs", {{"--lr", "0.001"}}),
                       {"settings.json: the runs there have learning_rate 0.003, not 0.001"});
  test::expect_refusal(run("other", {{"--methods", "median"}}), {"--methods"});
  test::expect_refusal(run("other", {{"--kv-heads", "3"}}), {"uptrain: ", "3", "4"});
  test::expect_refusal(run_program(GQA_PROGRAM_example_uptrain, {text, path("runs")}), {"--steps"});
  test::expect_refusal(run("other", {{"--seeds", "1,18446744073709551616"}}), {"--seeds"});
  test::expect_refusal(run("other", {{"--alpha", "0,nan"}}), {"--alpha"});
  test::expect_refusal(run_program(GQA_PROGRAM_example_uptrain,
                                   {path("runs/results.json"), path("runs"), "--steps", "40"}),
                       {"uptrain: ", "is the input, " + path("runs/results.json")});
  // Runs that are there must be runs.
  const auto good = read_bytes(folder.path() / "runs/seed1/mean-2.json");
  for (const char* broken : {"{}", "[]", "7", "{\"method\": 3}", "\xEF\xBB\xBF{}", "1e999"}) {
    folder.file("runs/seed1/mean-2.json", broken);
    test::expect_refusal(run("runs", {{"--methods", "mean"}, {"--kv-heads", "2"}}),
                         {"uptrain: ", "runs/seed1/mean-2.json: "});
  }
  folder.file("runs/seed1/mean-2.json", good);
  EXPECT_EQ(run("runs", {{"--methods", "mean"}, {"--kv-heads", "2"}}).status, 0);
}

}  // namespace
}  // namespace gqa::examples
