// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What stories260K loses when its 4 KV heads become 2 or 1, without training: convert_loss's table.

#include <gtest/gtest.h>

#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "files.hpp"
#include "program.hpp"

namespace gqa::examples {
namespace {

using test::expect_refusal;
using test::run_program;

std::string data(const char* name) { return test::shared_data("stories260K") / name; }

/// Loss by method and num_kv_heads.
std::map<std::pair<std::string, int>, double> table(const std::vector<std::string>& options) {
  std::vector<std::string> arguments = {data("stories260K.bin"), data("eval_stories.json")};
  arguments.insert(arguments.end(), options.begin(), options.end());
  const auto result = run_program(GQA_PROGRAM_example_convert_loss, arguments);
  EXPECT_EQ(result.status, 0) << result.err;
  std::istringstream lines(result.out);
  std::map<std::pair<std::string, int>, double> losses;
  std::string line, method;
  std::getline(lines, line);  // the heading
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    int num_kv_heads = 0;
    double loss = 0;
    EXPECT_TRUE(words >> method >> num_kv_heads >> loss) << line;
    losses[{method, num_kv_heads}] = loss;
  }
  return losses;
}

TEST(ConvertLoss, FewerHeadsOfARealModelCostWhatTheTableSays) {
  GQA_NEEDS_SHARED_DATA("stories260K");
  auto loss = table(
      {"--num-kv-heads", "4,2,1", "--methods", "mean,first,random,aligned", "--sequences", "4"});
  EXPECT_NEAR((loss[{"original", 4}]), 1.2641, 1e-3);
  // Nothing to merge, nothing lost; random heads have to learn anew.
  for (const char* method : {"mean", "first", "aligned"}) {
    EXPECT_NEAR((loss[{method, 4}]), 1.2641, 1e-3) << method;
  }
  // Pooling alone collapses the model.
  EXPECT_NEAR((loss[{"mean", 2}]), 4.59, 0.02);
  EXPECT_NEAR((loss[{"first", 2}]), 4.02, 0.02);
  EXPECT_NEAR((loss[{"mean", 1}]), 5.20, 0.02);
  EXPECT_NEAR((loss[{"first", 1}]), 6.30, 0.02);
  EXPECT_GT((loss[{"random", 2}]), 5.0);
  // Heads that agree keep most of it.
  EXPECT_LT((loss[{"aligned", 2}]), 2.10);
  EXPECT_LT((loss[{"aligned", 1}]), 3.00);
}

TEST(ConvertLoss, FittedHeadsComeNearTheOriginal) {
  GQA_NEEDS_SHARED_DATA("stories260K");
  // A quarter of the text and rounds that give convert_loss.cpp's figures, for the time that it
  // takes.
  auto loss = table({"--num-kv-heads", "2,1", "--methods", "fit", "--sequences", "8", "--rounds",
                     "3", "--steps", "10"});
  EXPECT_LT((loss[{"fit", 2}]), 1.80);
  EXPECT_LT((loss[{"fit", 1}]), 2.40);
}

TEST(ConvertLoss, RefusesWhatItCannotDo) {
  GQA_NEEDS_SHARED_DATA("stories260K");
  const auto run = [](std::vector<std::string> options) {
    options.insert(options.begin(), {data("stories260K.bin"), data("eval_stories.json")});
    return run_program(GQA_PROGRAM_example_convert_loss, options);
  };
  EXPECT_NE(run({}).status, 0);
  EXPECT_NE(run({"--num-kv-heads", "2", "--methods", "median"}).status, 0);
  const auto three = run({"--num-kv-heads", "3", "--sequences", "1", "--tokens", "4"});
  EXPECT_EQ(three.status, 1);
  EXPECT_NE(three.err.find("heads to make, 3, do not divide the heads there are, 4"),
            std::string::npos)
      << three.err;
  expect_refusal(run_program(GQA_PROGRAM_example_convert_loss,
                             {data("stories260K.bin"), "/no/such.json", "--num-kv-heads", "2"}),
                 {"convert_loss: /no/such.json"});
}

}  // namespace
}  // namespace gqa::examples
