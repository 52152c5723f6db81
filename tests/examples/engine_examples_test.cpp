// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// speculative, beam_search and paged_batch, run as programs, on stories260K and on random weights.
// Each compares its texts with what greedy decoding or the model without caches gives, and exits
// with 1 if they differ; here, with what llama2.c writes.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "files.hpp"
#include "program.hpp"

namespace gqa::examples {
namespace {

using test::expect_refusal;
using test::ProgramResult;
using test::run_program;

/// The texts of a program's output, which may be of several lines, and each begin with `heading`
/// and a number, as in "request 1: Once upon a time".
std::vector<std::pair<double, std::string>> texts_of(const std::string& out,
                                                     const std::string& heading) {
  std::vector<std::pair<double, std::string>> texts;
  std::istringstream in(out);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(heading + " ")) {
      const auto colon = line.find(": ");
      texts.emplace_back(std::stod(line.substr(heading.size() + 1)), line.substr(colon + 2));
    } else if (!texts.empty()) {
      texts.back().second += "\n" + line;
    }
  }
  return texts;
}
/// The numbers in the one match of a pattern.
std::vector<double> numbers_in(const std::string& text, const std::string& pattern) {
  std::smatch match;
  std::vector<double> numbers;
  if (std::regex_search(text, match, std::regex(pattern))) {
    for (std::size_t i = 1; i < match.size(); ++i) numbers.push_back(std::stod(match[i]));
  }
  return numbers;
}

/// What the programs say of stories260K.
class OfStories : public testing::Test {
 protected:
  void SetUp() override {
    GQA_NEEDS_SHARED_DATA("stories260K/stories260K.bin");
    const auto json =
        nlohmann::json::parse(std::ifstream(test::shared_data("stories260K/greedy.json")));
    text = json["cases"][1]["text"];
  }
  static ProgramResult run(const char* program, std::vector<std::string> options) {
    options.insert(options.begin(), {test::shared_data("stories260K/stories260K.bin").string(),
                                     test::shared_data("stories260K/tok512.bin").string()});
    const ProgramResult result = run_program(program, options);
    EXPECT_EQ(result.status, 0) << result.err;
    return result;
  }
  /// Is it the beginning of the text of llama2.c?
  void expect_the_text(const std::string& line) const {
    EXPECT_GT(line.size(), 200U);
    EXPECT_EQ(line, text.substr(0, line.size()));
  }
  std::string text;
};

TEST_F(OfStories, SpeculationWritesTheGreedyTextInFewerPasses) {
  for (const char* length : {"1", "4", "9"}) {
    const ProgramResult result =
        run(GQA_PROGRAM_example_speculative, {"--steps", "120", "--draft-length", length});
    expect_the_text(result.out.substr(0, result.out.size() - 1));
    const auto figures = numbers_in(
        result.err, "(\\d+) tokens by (\\d+) passes of the model; (\\d+) of (\\d+) drafted");
    ASSERT_EQ(figures.size(), 4U) << result.err;
    EXPECT_EQ(figures[0], 115);  // and 5 of the prompt
    EXPECT_LT(figures[1], figures[0]);
    EXPECT_GT(figures[2], 0);
    EXPECT_LT(figures[2], figures[3]) << "a draft was taken back";
  }
}

TEST_F(OfStories, OneBeamIsGreedyAndMoreAreLikelier) {
  const auto best = [this](const char* beams) {
    const ProgramResult result =
        run(GQA_PROGRAM_example_beam_search, {"--steps", "100", "--beams", beams});
    return texts_of(result.out, "log probability").at(0);
  };
  const auto [greedy, text_of_one] = best("1");
  expect_the_text(text_of_one);
  const auto [likelier, text_of_five] = best("5");
  EXPECT_GT(likelier, greedy);
  EXPECT_NE(text_of_five, text_of_one);
}

TEST_F(OfStories, BatchedRequestsWriteWhatTheyWriteAlone) {
  const ProgramResult result =
      run(GQA_PROGRAM_example_paged_batch, {"--steps", "100", "--pages", "20", "--progress"});
  const auto texts = texts_of(result.out, "request");
  ASSERT_EQ(texts.size(), 6U);
  expect_the_text(texts[0].second);
  EXPECT_TRUE(texts[3].second.starts_with("The sun was warm")) << texts[3].second;
  const auto figures = numbers_in(result.err,
                                  "6 requests in (\\d+) steps; at most (\\d+) of 20 pages in use, "
                                  "20 free at the end");
  ASSERT_EQ(figures.size(), 2U) << result.err;
  EXPECT_GT(figures[1], 10) << "two requests of 100 tokens in 5 layers overlap";
  // A line for each step, the memory rising and falling.
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 2 + int(figures[0]));
}

TEST(OfRandomWeights, ProgramsAgreeWithGreedyDecoding) {
  const ProgramResult speculative =
      run_program(GQA_PROGRAM_example_speculative, {"--steps", "100", "--draft-layers", "3"});
  EXPECT_EQ(speculative.status, 0) << speculative.err;
  const ProgramResult beam = run_program(GQA_PROGRAM_example_beam_search, {"--beams", "3"});
  EXPECT_EQ(beam.status, 0) << beam.err;
  EXPECT_EQ(texts_of(beam.out, "log probability").size(), 3U);
  const auto pages =
      numbers_in(beam.err, "pages: (\\d+) in use for (\\d+) references, (\\d+) of (\\d+) free");
  ASSERT_EQ(pages.size(), 4U) << beam.err;
  EXPECT_EQ(pages[0] + pages[2], pages[3]);
  const ProgramResult batch = run_program(
      GQA_PROGRAM_example_paged_batch, {"--prompt", "one", "--prompt", "and another one", "--steps",
                                        "70", "--batch", "2", "--chunk", "3", "--every", "1"});
  EXPECT_EQ(batch.status, 0) << batch.err;
  EXPECT_EQ(texts_of(batch.out, "request").size(), 2U);
}

TEST(OfRandomWeights, ProgramsSayWhatIsWrong) {
  expect_refusal(run_program(GQA_PROGRAM_example_speculative, {"--draft-layers", "6"}),
                 {"first_layers: 6 is outside of [1, 5]"});
  expect_refusal(run_program(GQA_PROGRAM_example_beam_search, {"--steps", "4"}),
                 {"--steps 4 must be above the prompt's 17 tokens"});
  expect_refusal(run_program(GQA_PROGRAM_example_paged_batch, {"--pages", "9"}),
                 {"--pages 9: a request of 96 tokens takes 10"});
  expect_refusal(run_program(GQA_PROGRAM_example_paged_batch, {"checkpoint.bin"}), {"TOKENIZER"});
}

}  // namespace
}  // namespace gqa::examples
