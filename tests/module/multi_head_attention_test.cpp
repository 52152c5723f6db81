// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Self-attention of a whole layer, against the formulas and against itself with and without a
// cache.
#include <gtest/gtest.h>

#include "layer.hpp"

namespace gqa::test {
namespace {

/// Layers as models have them, small.
std::vector<std::pair<const char*, MultiHeadAttentionConfig>> layers() {
  const RopeConfig halves{.style = RopeStyle::rotate_half};
  const RopeConfig pairs{.style = RopeStyle::interleaved};
  return {
      {"MHA", {.hidden_size = 24, .num_heads = 4}},
      {"GQA, rope in pairs (llama2.c)",
       {.hidden_size = 64, .num_heads = 8, .num_kv_heads = 4, .rope = pairs}},
      {"GQA, rope in halves (Llama)",
       {.hidden_size = 96, .num_heads = 4, .num_kv_heads = 2, .rope = halves}},
      {"MQA, partial rope, value_dim 12",
       {.hidden_size = 40,
        .num_heads = 5,
        .num_kv_heads = 1,
        .head_dim = 16,
        .value_dim = 12,
        .rope = RopeConfig{.theta = 500, .rotary_dim = 6, .style = RopeStyle::interleaved}}},
      {"QK-norm, wide heads (Qwen 3)",
       {.hidden_size = 32,
        .num_heads = 6,
        .num_kv_heads = 2,
        .head_dim = 20,
        .rope = halves,
        .qk_norm = QkNorm{}}},
      {"biases everywhere, scale, QK-norm, rope in pairs, table",
       {.hidden_size = 48,
        .num_heads = 6,
        .num_kv_heads = 3,
        .qkv_bias = true,
        .out_bias = true,
        .rope = pairs,
        .rope_table_positions = 5,
        .qk_norm = QkNorm{.eps = 0.01},
        .scale = 0.5}},
  };
}

template <typename T>
class SelfAttention : public ::testing::Test {
 public:
  /// Activations are near 1, sums are over less than 100 terms.
  static constexpr double tolerance = std::same_as<T, double> ? 1e-13 : 5e-6;
};
using Reals = ::testing::Types<float, double>;
TYPED_TEST_SUITE(SelfAttention, Reals);

TYPED_TEST(SelfAttention, IsTheFormula) {
  using T = TypeParam;
  for (const auto& [name, config] : layers()) {
    const auto layer = random_layer<T>(config);
    const auto x = random_hidden<T>(2, 13, config.hidden_size);
    Hidden<T> y(2, 13, config.hidden_size);
    layer.forward(x, y);
    for (Index b = 0; b < 2; ++b) {
      const auto rows = rows_of_sequence(x, b, 13);
      EXPECT_LE(largest_difference(PlainLayer(layer)(rows, rows, 0, causal), y, b), this->tolerance)
          << name;
    }
  }
}

TYPED_TEST(SelfAttention, WithoutMaskIsAnEncoder) {
  using T = TypeParam;
  for (const auto& [name, config] : layers()) {
    const auto layer = random_layer<T>(config);
    const auto x = random_hidden<T>(1, 9, config.hidden_size);
    Hidden<T> y(1, 9, config.hidden_size);
    Workspace workspace;
    layer.forward(x, y, nullptr, &workspace, NoMask{});
    const auto rows = rows_of_sequence(x, 0, 9);
    const auto all = [](Index, Index) { return true; };
    EXPECT_LE(largest_difference(PlainLayer(layer)(rows, rows, 0, all), y, 0), this->tolerance)
        << name;
  }
}

TYPED_TEST(SelfAttention, WithACacheContinuesItsSequences) {
  using T = TypeParam;
  for (const auto& [name, config] : layers()) {
    const auto layer = random_layer<T>(config);
    const Index batch = 2, tokens = 21;
    const auto x = random_hidden<T>(batch, tokens, config.hidden_size);
    Hidden<T> expected(batch, tokens, config.hidden_size);
    layer.forward(x, expected);
    // One at a time, all at once, and a prompt followed by single tokens and a pair.
    for (const std::vector<Index>& steps :
         {std::vector<Index>(21, 1), {21}, {9, 1, 1, 2, 1, 7}, {1, 20}}) {
      KvCache<T> cache({.batch = batch, .capacity = tokens, .heads = layer.heads()});
      Workspace workspace;
      Index first = 0;
      for (const Index n : steps) {
        Hidden<T> part = x.slice(Eigen::array<Index, 3>{0, first, 0},
                                 Eigen::array<Index, 3>{batch, n, config.hidden_size});
        Hidden<T> y(batch, n, config.hidden_size);
        layer.forward(part, y, &cache, &workspace);
        for (Index i = 0; i < y.size(); ++i) {
          const Index b = i / (n * config.hidden_size), rest = i % (n * config.hidden_size);
          ASSERT_NEAR(static_cast<double>(y.data()[i]),
                      static_cast<double>(
                          expected.data()[(b * tokens + first) * config.hidden_size + rest]),
                      this->tolerance)
              << name;
        }
        first += n;
      }
      EXPECT_EQ(cache.length(0), tokens);
      EXPECT_EQ(cache.length(1), tokens);
    }
  }
}

TEST(SelfAttentionCache, BitsOfATokenDontDependOnHowManyAreComputedTogether) {
  const auto layer = random_layer<float>({.hidden_size = 100,
                                          .num_heads = 6,
                                          .num_kv_heads = 2,
                                          .head_dim = 20,
                                          .qkv_bias = true,
                                          .out_bias = true,
                                          .rope = RopeConfig{},
                                          .qk_norm = QkNorm{}});
  const Index width = 100, tokens = 70;
  const auto x = random_hidden<float>(1, tokens, width);
  const auto run = [&](Index at_once) {
    KvCache<float> cache({.batch = 1, .capacity = tokens, .heads = layer.heads()});
    Hidden<float> y(1, tokens, width);
    for (Index t = 0; t < tokens; t += at_once) {
      const Index count = std::min(at_once, tokens - t);
      layer.forward(rows_of(x).tokens_slice(t, count), rows_of(y).tokens_slice(t, count), &cache);
    }
    return y;
  };
  const auto one_by_one = run(1);
  for (const Index at_once : {2, 3, 5, 9, 33, 70}) {
    const auto y = run(at_once);
    for (Index i = 0; i < y.size(); ++i) ASSERT_EQ(y.data()[i], one_by_one.data()[i]) << at_once;
  }
}

TEST(SelfAttentionCache, SequencesOfABatchGoOnFromTheirOwnLengths) {
  const MultiHeadAttentionConfig config{
      .hidden_size = 32, .num_heads = 4, .num_kv_heads = 2, .rope = RopeConfig{}};
  const auto layer = random_layer<float>(config);
  const std::vector<Index> prompts{7, 0, 3};  // then two more tokens each
  const auto x = random_hidden<float>(3, 9, 32);
  KvCache<float> cache({.batch = 3, .capacity = 9, .heads = layer.heads()});
  Workspace workspace;
  Hidden<float> prompt = x.slice(Eigen::array<Index, 3>{0, 0, 0}, Eigen::array<Index, 3>{3, 7, 32});
  for (Index b = 0; b < 3; ++b) {  // what stands after a shorter prompt must not matter
    for (Index t = prompts[static_cast<std::size_t>(b)]; t < 7; ++t) {
      for (Index c = 0; c < 32; ++c) prompt(b, t, c) = std::numeric_limits<float>::quiet_NaN();
    }
  }
  Hidden<float> y(3, 7, 32), next(3, 2, 32), y_next(3, 2, 32);
  layer.forward(prompt, y, &cache, &workspace, Causal{}, Serial{}, prompts);
  for (Index b = 0; b < 3; ++b) {
    for (Index t = 0; t < 2; ++t) {
      for (Index c = 0; c < 32; ++c) {
        next(b, t, c) = x(b, prompts[static_cast<std::size_t>(b)] + t, c);
      }
    }
  }
  layer.forward(next, y_next, &cache, &workspace);
  for (Index b = 0; b < 3; ++b) {
    const Index n = prompts[static_cast<std::size_t>(b)];
    EXPECT_EQ(cache.length(b), n + 2);
    const auto rows = rows_of_sequence(x, b, n + 2);
    auto expected = PlainLayer(layer)(rows, rows, 0, causal);
    const PlainLayer::Rows last(expected.end() - 2, expected.end());
    expected.resize(static_cast<std::size_t>(n));
    EXPECT_LE(largest_difference(expected, y, b), 5e-6);
    EXPECT_LE(largest_difference(last, y_next, b), 5e-6);
    for (Index t = n; t < 7; ++t) EXPECT_EQ(y(b, t, 0), 0.0f);
  }
}

TEST(SelfAttentionCache, WithoutACacheSequencesMayHaveLengthsToo) {
  const MultiHeadAttentionConfig config{.hidden_size = 32, .num_heads = 4, .rope = RopeConfig{}};
  const auto layer = random_layer<float>(config);
  const auto x = random_hidden<float>(2, 6, 32);
  Hidden<float> y(2, 6, 32);
  const std::vector<Index> lengths{6, 4};
  layer.forward(x, y, nullptr, nullptr, NoMask{}, Serial{}, lengths);
  const auto all = [](Index, Index) { return true; };
  for (Index b = 0; b < 2; ++b) {
    const auto rows = rows_of_sequence(x, b, lengths[static_cast<std::size_t>(b)]);
    EXPECT_LE(largest_difference(PlainLayer(layer)(rows, rows, 0, all), y, b), 5e-6);
  }
}

TEST(SelfAttentionCache, MayKeepItsKeysInFewerBits) {
  const MultiHeadAttentionConfig config{
      .hidden_size = 64, .num_heads = 8, .num_kv_heads = 2, .rope = RopeConfig{}};
  const auto layer = random_layer<float>(config);
  const auto x = random_hidden<float>(1, 12, 64);
  Hidden<float> exact(1, 12, 64), y(1, 12, 64);
  layer.forward(x, exact);
  const auto error = [&](auto&& cache) {
    layer.forward(x, y, &cache);
    double largest = 0;
    for (Index i = 0; i < y.size(); ++i) {
      largest = std::max<double>(largest, std::abs(y.data()[i] - exact.data()[i]));
    }
    return largest;
  };
  const double bf16 = error(KvCache<bfloat16>({.capacity = 12, .heads = layer.heads()}));
  const double f16 = error(KvCache<half>({.capacity = 12, .heads = layer.heads()}));
  EXPECT_GT(bf16, 1e-5);
  EXPECT_LE(bf16, 4.0 / 256);  // keys near 1 are off by 2^-9, values too, and o_proj adds them up
  EXPECT_GT(f16, 1e-6);
  EXPECT_LE(f16, 4.0 / 2048);
}

TEST(SelfAttentionRules, ComeFromTheCaller) {
  const auto layer = random_layer<float>({.hidden_size = 24, .num_heads = 4});
  const auto x = random_hidden<float>(1, 20, 24);
  Hidden<float> y(1, 20, 24);
  layer.forward(x, y, nullptr, nullptr, Causal{} & SlidingWindow::from_hf(5));
  const auto rows = rows_of_sequence(x, 0, 20);
  const auto window = [](Index i, Index j) { return j <= i && i - j < 5; };
  EXPECT_LE(largest_difference(PlainLayer(layer)(rows, rows, 0, window), y, 0), 5e-6);
}

TEST(SelfAttentionRules, AScaleAmongThemWinsOverTheConfigurations) {
  MultiHeadAttentionConfig config{.hidden_size = 24, .num_heads = 4, .scale = 0.7};
  const auto layer = random_layer<float>(config);
  config.scale = 0.2;
  const auto other = random_layer<float>(config);
  const auto x = random_hidden<float>(1, 8, 24);
  Hidden<float> y(1, 8, 24), expected(1, 8, 24), own(1, 8, 24);
  other.forward(x, expected);
  layer.forward(x, y, nullptr, nullptr, Causal{} & Scale{0.2});
  layer.forward(x, own);
  for (Index i = 0; i < y.size(); ++i) EXPECT_EQ(y.data()[i], expected.data()[i]);
  EXPECT_NE(own(0, 7, 0), y(0, 7, 0));
}

TEST(SelfAttentionArguments, MayBeMatricesTensorsOrTheSameMemory) {
  const auto layer = random_layer<float>({.hidden_size = 24, .num_heads = 4});
  auto x = random_hidden<float>(1, 10, 24);
  Hidden<float> y(1, 10, 24);
  layer.forward(x, y);
  const auto expect_same = [&](const float* other) {
    for (Index i = 0; i < y.size(); ++i) EXPECT_EQ(other[i], y.data()[i]);
  };

  const Eigen::Map<const Matrix<float>> x_matrix(x.data(), 10, 24);
  Matrix<float> y_matrix(10, 24);
  layer.forward(x_matrix, y_matrix);
  expect_same(y_matrix.data());

  Eigen::Tensor<float, 2, Eigen::RowMajor> y2(10, 24);
  layer.forward(Eigen::TensorMap<Eigen::Tensor<float, 2, Eigen::RowMajor>>(x.data(), 10, 24), y2);
  expect_same(y2.data());

  Matrix<float> wide = Matrix<float>::Zero(10, 30);  // rows with gaps
  wide.leftCols(24) = x_matrix;
  layer.forward(wide.leftCols(24), wide.leftCols(24));
  const Matrix<float> inner = wide.leftCols(24);
  expect_same(inner.data());
  EXPECT_TRUE(wide.rightCols(6).isZero(0));

  layer.forward(x, x);
  expect_same(x.data());
}

TEST(SelfAttentionArguments, EmptyBatchesAndNoTokensAreFine) {
  const auto layer = random_layer<float>({.hidden_size = 24, .num_heads = 4});
  Hidden<float> none(1, 0, 24), y(1, 0, 24);
  layer.forward(none, y);
  KvCache<float> cache({.capacity = 4, .heads = layer.heads()});
  layer.forward(none, y, &cache);
  EXPECT_EQ(cache.length(0), 0);
}

}  // namespace
}  // namespace gqa::test
