// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What each score rule does to a score, against values from elsewhere; and what it refuses.
#include "gqa/score/rule.hpp"

#include <gtest/gtest.h>

#include "gqa/core/eigen.hpp"
#include "gqa/score/rules.hpp"
#include "support/errors.hpp"

namespace gqa::test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

TEST(SoftCap, IsCapTimesTanh) {
  const SoftCap cap{50.0f};
  EXPECT_DOUBLE_EQ(cap.score(20.0, {}), 50 * std::tanh(0.4));
  EXPECT_FLOAT_EQ(cap.score(20.0f, {}), static_cast<float>(50 * std::tanh(0.4)));
  EXPECT_EQ(cap.score(1e30f, {}), 50.0f);
  EXPECT_EQ(cap.score(-infinity, {}), -50.0);
  for (const float wrong : {0.0f, -1.0f}) {
    EXPECT_EQ(error_of([=] { SoftCap{wrong}.check({}); }),
              message("SoftCap: the cap must be positive, is ", wrong));
  }
  EXPECT_NE(error_of([] { SoftCap{std::nanf("")}.check({}); }), "no exception");
  EXPECT_EQ(error_of([] { SoftCap{std::numeric_limits<float>::infinity()}.check({}); }),
            "SoftCap: the cap must be finite, is inf");
}

/// The slopes as the paper's code has them (github.com/ofirpress/attention_with_linear_biases).
std::vector<double> slopes_of_paper(int n) {
  const double log2_n = std::log2(n);
  if (log2_n == std::floor(log2_n)) {
    const double start = std::pow(2.0, -std::pow(2.0, -(log2_n - 3)));
    std::vector<double> slopes;
    for (int i = 0; i < n; ++i) slopes.push_back(start * std::pow(start, i));
    return slopes;
  }
  const int closest = static_cast<int>(std::pow(2, std::floor(log2_n)));
  std::vector<double> slopes = slopes_of_paper(closest);
  const std::vector<double> finer = slopes_of_paper(2 * closest);
  for (int i = 0; i < n - closest; ++i) slopes.push_back(finer[static_cast<std::size_t>(2 * i)]);
  return slopes;
}

TEST(Alibi, HasThePapersSlopesForAnyNumberOfHeads) {
  for (int n = 1; n <= 65; ++n) {
    const auto slopes = Alibi::standard(n).slopes();
    const auto expected = slopes_of_paper(n);
    ASSERT_EQ(slopes.size(), expected.size());
    for (std::size_t h = 0; h < slopes.size(); ++h) {
      EXPECT_FLOAT_EQ(slopes[h], static_cast<float>(expected[h])) << "head " << h << " of " << n;
    }
  }
  // Eight heads: 1/2, 1/4, … 1/256, as the paper prints them.
  const auto eight = Alibi::standard(8).slopes();
  for (std::size_t h = 0; h < 8; ++h)
    EXPECT_EQ(eight[h], std::ldexp(1.0f, -static_cast<int>(h) - 1));
}

TEST(Alibi, AddsSlopeTimesDistance) {
  const Alibi alibi{{0.5f, 0.25f}};
  EXPECT_EQ(alibi.score(3.0, {.head = 1, .q_pos = 10, .k_pos = 2}), 3.0 + 0.25 * (2 - 10));
  EXPECT_EQ(alibi.score(3.0f, {.head = 0, .q_pos = 10, .k_pos = 12}), 4.0f);
  EXPECT_EQ(error_of([&] { alibi.check({.num_heads = 3}); }), "Alibi has 2 slopes for num_heads 3");
  EXPECT_EQ(error_of([] { Alibi::standard(0); }),
            "Alibi::standard: num_heads must be positive, is 0");
}

/// The smallest distance of each bucket, by Hugging Face's T5Attention._relative_position_bucket in
/// float32, for keys before the query. `behind`: where buckets of keys after it begin.
struct Buckets {
  Index num_buckets, max_distance;
  bool bidirectional;
  std::vector<Index> smallest_distance;
};

TEST(RelativeBias, HasHuggingFacesBuckets) {
  for (const Buckets& b : std::vector<Buckets>{
           {32, 128, true, {0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91}},
           {32, 128, false, {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                             16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113}},
           {12, 50, false, {0, 1, 2, 3, 4, 5, 6, 9, 13, 18, 25, 36}},
           {16, 20, true, {0, 1, 2, 3, 4, 6, 9, 14}},
           {32, 256, true, {0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 20, 30, 46, 70, 108, 166}}}) {
    const RelativeBias bias{.table = {},
                            .num_buckets = b.num_buckets,
                            .bidirectional = b.bidirectional,
                            .max_distance = b.max_distance};
    for (Index n = 0; n < 400; ++n) {
      const auto above =
          std::upper_bound(b.smallest_distance.begin(), b.smallest_distance.end(), n);
      const Index bucket = above - b.smallest_distance.begin() - 1;
      EXPECT_EQ(bias.bucket_of(-n), bucket) << n;
      if (n == 0) continue;
      EXPECT_EQ(bias.bucket_of(n), b.bidirectional ? b.num_buckets / 2 + bucket : 0) << n;
    }
    EXPECT_EQ(bias.bucket_of(-1'000'000'000), std::ssize(b.smallest_distance) - 1);
  }
}

TEST(RelativeBias, AddsTheHeadsNumberOfTheBucket) {
  std::vector<float> table(32 * 3);
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<float>(i);
  const RelativeBias bias{.table = table, .num_heads = 3};
  EXPECT_EQ(bias.score(0.5, {.head = 2, .q_pos = 7, .k_pos = 4}), 0.5 + 3 * 3 + 2);
  EXPECT_EQ(bias.score(0.5f, {.head = 0, .q_pos = 4, .k_pos = 7}), 0.5f + 3 * (16 + 3));
}

TEST(RelativeBias, RefusesTablesOfOtherSizes) {
  const std::vector<float> table(32 * 4);
  EXPECT_EQ(error_of([&] { RelativeBias{.table = table, .num_heads = 4}.check({.num_heads = 8}); }),
            "RelativeBias is for num_heads 4, not 8");
  EXPECT_EQ(error_of([&] { RelativeBias{.table = table, .num_heads = 8}.check({.num_heads = 8}); }),
            "RelativeBias has 128 numbers for [num_buckets, num_heads] = [32, 8]");
  const auto tiny = [&](Index num_buckets, Index max_distance, bool bidirectional) {
    const std::vector<float> numbers(static_cast<std::size_t>(num_buckets));
    RelativeBias{.table = numbers,
                 .num_buckets = num_buckets,
                 .num_heads = 1,
                 .bidirectional = bidirectional,
                 .max_distance = max_distance}
        .check({.num_heads = 1});
  };
  EXPECT_EQ(
      error_of([&] { tiny(2, 128, true); }),
      "RelativeBias: max_distance 128 must exceed the 0 exact buckets, of which there must be one");
  EXPECT_EQ(
      error_of([&] { tiny(32, 8, true); }),
      "RelativeBias: max_distance 8 must exceed the 8 exact buckets, of which there must be one");
  EXPECT_EQ(
      error_of([&] { tiny(32, 16, false); }),
      "RelativeBias: max_distance 16 must exceed the 16 exact buckets, of which there must be one");
  tiny(4, 2, true);
}

TEST(AdditiveBias, AddsItsNumberAndHidesWhereItIsMinusInfinity) {
  Eigen::Tensor<float, 4, Eigen::RowMajor> numbers(1, 2, 1, 3);
  const auto inf = std::numeric_limits<float>::infinity();
  numbers.setValues({{{{1.0f, -inf, inf}}, {{4.0f, std::nanf(""), 6.0f}}}});
  const AdditiveBias bias{DenseView<float>(numbers)};
  EXPECT_EQ(bias.score(0.5, {.batch = 7, .head = 1, .q_index = 3, .k_index = 2}), 6.5);
  EXPECT_EQ(bias.score(0.5f, {.head = 0, .k_index = 0}), 1.5f);
  EXPECT_FALSE(bias.visible({.head = 0, .k_index = 1}));
  EXPECT_TRUE(bias.visible({.head = 0, .k_index = 2}));  // +inf and NaN are seen, and show
  EXPECT_TRUE(bias.visible({.head = 1, .k_index = 1}));
  // Shorter than the keys: those after it are hidden, without a look at memory that isn't there.
  EXPECT_FALSE(bias.visible({.head = 1, .k_index = 3}));
  EXPECT_EQ(bias.score(0.5, {.head = 1, .k_index = 3}), -infinity);
  EXPECT_EQ(error_of([&] { bias.check({.batch = 1, .q_len = 5, .num_heads = 3}); }),
            "AdditiveBias has num_heads 2, expected 3 or 1");
}

TEST(SinkLogits, AreOnePerQueryHead) {
  const std::vector<float> logits{1.5f, -2.0f};
  const SinkLogits sinks{logits};
  EXPECT_EQ(sinks.sink(1), -2.0f);
  EXPECT_EQ(error_of([&] { sinks.check({.num_heads = 4}); }),
            "SinkLogits has 2 logits for num_heads 4");
}

TEST(ScoreFunction, SeesTheScoreAndThePlace) {
  const auto rule =
      score_function([](auto x, const Where& w) { return x * 2 + static_cast<double>(w.head); });
  EXPECT_EQ(rule.score(1.5, {.head = 3}), 6.0);
  EXPECT_EQ(rule.score(1.5f, {.head = 3}), 6.0f);
}

}  // namespace
}  // namespace gqa::test
