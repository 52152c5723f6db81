// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Rotary embedding with every scaling, and RMSNorm, against transformers and PyTorch.
#include <cmath>

#include "golden_case.hpp"
#include "support/near.hpp"

namespace gqa::test {
namespace {

RopeConfig rope_config(const nlohmann::json& c) {
  RopeConfig config{
      .theta = c.at("theta"),
      .rotary_dim = c.at("rotary_dim"),
      .style = c.at("interleaved").get<bool>() ? RopeStyle::interleaved : RopeStyle::rotate_half};
  const std::string kind = c.at("scaling");
  const double factor = c.value("factor", 1.0);
  const Index original = c.value("original_max_position_embeddings", Index{0});
  if (kind == "linear") {
    config.scaling = LinearRopeScaling{factor};
  } else if (kind == "dynamic") {
    config.scaling = DynamicNtkRopeScaling{factor, c.at("max_position_embeddings")};
  } else if (kind == "yarn") {
    config.scaling = YarnRopeScaling{.factor = factor,
                                     .original_max_position_embeddings = original,
                                     .beta_fast = c.at("beta_fast"),
                                     .beta_slow = c.at("beta_slow")};
  } else if (kind == "llama3") {
    config.scaling = Llama3RopeScaling{.factor = factor,
                                       .low_freq_factor = c.at("low_freq_factor"),
                                       .high_freq_factor = c.at("high_freq_factor"),
                                       .original_max_position_embeddings = original};
  } else if (kind != "none") {
    throw std::runtime_error("golden rope case with unknown scaling " + kind);
  }
  return config;
}

class GoldenRope : public testing::TestWithParam<GoldenCase> {
 protected:
  /// Rotates the case's x with a table of cos and sin in advance for `table_positions`.
  template <typename T>
  std::vector<T> rotated(Index table_positions) const {
    const auto& c = GetParam();
    const auto& n = golden_tensors().shape(c.tensor_name("x"));  // [batch, tokens, heads, head_dim]
    const RopeTable<AccumulatorOf<T>> table(rope_config(c.json), n[3], table_positions);
    std::vector<Index> positions;
    for (const auto& row : c.json.at("positions")) {
      for (const Index position : row) positions.push_back(position);
    }
    auto x = c.tensor<T>("x");
    apply_rope(table, TensorView<T>(x.data(), {n[0], n[1], n[2], n[3]}),
               RopePositions::each(positions, n[1]));
    return x;
  }
};

TEST_P(GoldenRope, FrequenciesAndFactorAreThoseOfTransformers) {
  const auto& c = GetParam();
  const RopeTable<double> table(rope_config(c.json), c.number("head_dim"));
  const auto expected = c.tensor<double>("inv_freq");
  ASSERT_EQ(table.pairs(), std::ssize(expected));
  for (Index i = 0; i < table.pairs(); ++i) {
    const double want = expected[static_cast<std::size_t>(i)];
    EXPECT_NEAR(table.frequency(i, c.number("seq_len")) / want, 1.0, 1e-13) << "pair " << i;
  }
  EXPECT_NEAR(table.attention_factor(), c.json.at("attention_factor").get<double>(), 1e-15);
}

// An angle of 400 radians is known to 400 * 2^-53 = 4e-14, times a frequency known to some 2^-52.
TEST_P(GoldenRope, RotatesDoublesAsTransformers) {
  const auto expected = GetParam().tensor<double>("y");
  expect_near(rotated<double>(0), expected, 1e-12, "angles computed when met");
  expect_near(rotated<double>(512), expected, 1e-12, "angles from the table");
}

// Two products and a sum of numbers up to 4, times YaRN's factor of up to 1.4.
TEST_P(GoldenRope, RotatesFloatsAsTransformers) {
  const auto expected = GetParam().tensor<double>("y");
  expect_near(rotated<float>(0), expected, 1e-6, "angles computed when met");
  expect_near(rotated<float>(512), expected, 1e-6, "angles from the table");
}

INSTANTIATE_TEST_SUITE_P(Golden, GoldenRope, testing::ValuesIn(golden_cases("rope")), golden_name);

class GoldenRmsNorm : public testing::TestWithParam<GoldenCase> {
 protected:
  /// The largest difference from the stored y, as a part of the largest |y|.
  template <typename T>
  double error() const {
    const auto& c = GetParam();
    const auto x = c.tensor<T>("x"), weight = c.tensor<T>("weight");
    const auto expected = c.tensor<double>("y");
    std::vector<T> y(x.size());
    const TensorShape shape{
        .batch = 1, .tokens = c.number("rows"), .heads = 1, .dim = c.number("dim")};
    rms_norm(TensorView<const T>(x.data(), shape), std::span(weight),
             TensorView<T>(y.data(), shape), c.json.at("epsilon").get<double>());
    double worst = 0, largest = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(y[i]) - expected[i]));
      largest = std::max(largest, std::abs(expected[i]));
    }
    return worst / largest;
  }
};

TEST_P(GoldenRmsNorm, NormalisesDoublesAsPyTorch) { EXPECT_LE(error<double>(), 1e-15); }
TEST_P(GoldenRmsNorm, NormalisesFloatsAsPyTorch) { EXPECT_LE(error<float>(), 2e-7); }

INSTANTIATE_TEST_SUITE_P(Golden, GoldenRmsNorm, testing::ValuesIn(golden_cases("rms_norm")),
                         golden_name);

}  // namespace
}  // namespace gqa::test
