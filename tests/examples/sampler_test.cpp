// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors

#include "llama/sampler.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "files.hpp"

namespace gqa::examples {
namespace {

using test::expect_error;

TEST(Sampler, TemperatureZeroTakesTheFirstOfTheLargest) {
  Sampler sampler({});
  EXPECT_EQ(sampler.sample(std::array{1.0F, 3.0F, 3.0F, -5.0F}), 1);
  EXPECT_EQ(sampler.sample(std::array{7.0F}), 0);
}

/// The frequencies of 20000 samples lie within five standard deviations of the probabilities.
void expect_frequencies(SamplerOptions options, const std::vector<float>& logits,
                        const std::vector<double>& probabilities) {
  Sampler sampler(options);
  constexpr int draws = 20000;
  std::vector<int> count(logits.size());
  for (int i = 0; i < draws; ++i) ++count[static_cast<std::size_t>(sampler.sample(logits))];
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double p = probabilities[i];
    EXPECT_NEAR(count[i], draws * p, 5 * std::sqrt(draws * p * (1 - p))) << "token " << i;
  }
}

TEST(Sampler, DrawsEachTokenAsOftenAsTheSoftmaxSays) {
  const std::vector<float> logits = {std::log(0.5F), std::log(0.3F), std::log(0.15F),
                                     std::log(0.05F)};
  expect_frequencies({.temperature = 1, .top_p = 1, .seed = 7}, logits, {0.5, 0.3, 0.15, 0.05});
  const double sum = 0.25 + 0.09 + 0.0225 + 0.0025;  // temperature 1/2 squares the odds
  expect_frequencies({.temperature = 0.5F, .top_p = 1, .seed = 8}, logits,
                     {0.25 / sum, 0.09 / sum, 0.0225 / sum, 0.0025 / sum});
}

TEST(Sampler, TopPKeepsTheLikeliestTokensThatReachIt) {
  const std::vector<float> logits = {std::log(0.05F), std::log(0.5F), std::log(0.15F),
                                     std::log(0.3F)};
  expect_frequencies({.temperature = 1, .top_p = 0.75F, .seed = 9}, logits,
                     {0, 0.5 / 0.8, 0, 0.3 / 0.8});
  expect_frequencies({.temperature = 1, .top_p = 0.4F, .seed = 9}, logits, {0, 1, 0, 0});
}

TEST(Sampler, AVerySmallTopPTakesTheLikeliestEvenIfItIsNotLikely) {
  const std::vector<float> logits = {0.0F, 0.001F};
  expect_frequencies({.temperature = 1, .top_p = 0.01F, .seed = 3}, logits, {0, 1});
}

TEST(Sampler, EqualSeedsGiveEqualTokensAndOthersDoNot) {
  const std::vector<float> logits(64, 0.0F);
  const auto draw = [&](std::uint64_t seed) {
    Sampler sampler({.temperature = 1, .top_p = 1, .seed = seed});
    std::vector<int> tokens;
    for (int i = 0; i < 20; ++i) tokens.push_back(sampler.sample(logits));
    return tokens;
  };
  EXPECT_EQ(draw(42), draw(42));
  EXPECT_NE(draw(42), draw(43));
}

TEST(Sampler, TheRandomNumbersAreThoseOfLlama2c) {
  // random_f32 of run.c from the seed 42, computed apart from this code
  const std::array expected = {0.339085, 0.782256, 0.790137, 0.944043, 0.764394, 0.83574};
  Sampler sampler({.temperature = 1, .top_p = 1, .seed = 42});
  const std::vector<float> logits(1000, 0.0F);  // token n answers [n / 1000, (n + 1) / 1000)
  for (const double random : expected) {
    EXPECT_NEAR(sampler.sample(logits) + 0.5, random * 1000, 0.6);
  }
}

TEST(Sampler, ExtremeLogitsAndTemperaturesStayFinite) {
  Sampler sampler({.temperature = 1e-30F, .top_p = 0.9F, .seed = 1});
  EXPECT_EQ(sampler.sample(std::array{-3e38F, 3e38F, 1.0F}), 1);
  EXPECT_EQ(sampler.sample(std::array{-1.0F, 1.0F, 2.0F}), 2);
}

TEST(Sampler, BadOptionsAndLogitsAreRefused) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refused = [](SamplerOptions options, std::string_view part) {
    expect_error<std::invalid_argument>([&] { Sampler sampler(options); }, {part});
  };
  refused({.temperature = -1}, "temperature -1.0");
  refused({.temperature = nan}, "temperature");
  refused({.temperature = std::numeric_limits<float>::infinity()}, "temperature inf");
  refused({.top_p = 0}, "top_p 0.0");
  refused({.top_p = 1.5F}, "top_p 1.5");
  refused({.top_p = nan}, "top_p");
  refused({.seed = 0}, "seed 0");

  Sampler sampler({});
  expect_error<std::invalid_argument>([&] { sampler.sample({}); }, {"no logits"});
  expect_error<std::invalid_argument>(
      [&] {
        sampler.sample(std::array{1.0F, nan, 2.0F});
      },
      {"logit 1 of 3 isn't finite"});
}

}  // namespace
}  // namespace gqa::examples
