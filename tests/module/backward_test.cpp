// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The gradients of a layer against finite differences, in double: of x (and the memory) and of
// every weight, for projections, biases, rotations, QK-norm, ragged batches and cross-attention.
#include <gtest/gtest.h>

#include <cstring>

#include "layer.hpp"
#include "support/attention_case.hpp"
#include "support/difference.hpp"
#include "support/errors.hpp"

namespace gqa::test {
namespace {

using Layer = MultiHeadAttention<double>;

/// Central differences of the fourth order over all `numbers`, against `gradients`.
template <typename F>
void expect_differences(const char* what, std::span<double> numbers,
                        std::span<const double> gradients, F loss) {
  ASSERT_EQ(numbers.size(), gradients.size());
  double worst = 0, largest = 1e-3;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const double before = numbers[i], h = 1e-3;
    const auto at = [&](double shift) {
      numbers[i] = before + shift;
      return loss();
    };
    const double quotient = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    numbers[i] = before;
    worst = std::max(worst, difference(quotient, gradients[i]));
    largest = std::max(largest, std::abs(quotient));
  }
  EXPECT_LE(worst / largest, 1e-7) << what;
}

std::span<double> all(Hidden<double>& x) { return {x.data(), static_cast<std::size_t>(x.size())}; }

double dot(const Hidden<double>& a, const Hidden<double>& b) {
  double sum = 0;
  for (Index i = 0; i < a.size(); ++i) sum += a.data()[i] * b.data()[i];
  return sum;
}

/// Hidden states of a ragged batch are NaN after the q_lens, and of no weight in the loss.
void poison_behind(Hidden<double>& x, std::span<const Index> lengths, double value) {
  for (Index b = 0; b < std::ssize(lengths); ++b) {
    for (Index t = lengths[static_cast<std::size_t>(b)]; t < x.dimension(1); ++t) {
      for (Index c = 0; c < x.dimension(2); ++c) x(b, t, c) = value;
    }
  }
}

/// The gaps between weights in AttentionWeights::numbers() are zeros that nothing depends on.
void check_self_attention(const MultiHeadAttentionConfig& config, std::span<const Index> q_lens) {
  Layer layer = random_layer<double>(config);
  auto x = random_hidden<double>(2, 5, config.hidden_size, 1);
  auto dy = random_hidden<double>(2, 5, config.hidden_size, 2);
  Hidden<double> y(x.dimensions()), dx(x.dimensions());
  Workspace workspace;
  AttentionRecord<double> record;
  layer.forward(x, y, record, &workspace, Causal{}, Serial{}, q_lens);
  Hidden<double> plain(x.dimensions());
  layer.forward(x, plain, nullptr, &workspace, Causal{}, Serial{}, q_lens);
  for (Index i = 0; i < y.size(); ++i) EXPECT_NEAR(y.data()[i], plain.data()[i], 1e-12);

  AttentionWeights<double> gradients(layer.config());
  auto dy_behind = dy, x_behind = x;
  poison_behind(dy_behind, q_lens, std::numeric_limits<double>::quiet_NaN());
  poison_behind(x_behind, q_lens, std::numeric_limits<double>::quiet_NaN());
  layer.forward(x_behind, y, record, &workspace, Causal{}, Serial{}, q_lens);
  layer.backward(x_behind, dy_behind, dx, record, gradients, &workspace, Causal{}, Serial{},
                 q_lens);

  poison_behind(dy, q_lens, 0);
  const auto loss = [&] {
    layer.forward(x, y, nullptr, &workspace, Causal{}, Serial{}, q_lens);
    return dot(y, dy);
  };
  expect_differences("dx", all(x), all(dx), loss);
  expect_differences("weights", layer.weights().numbers(), gradients.numbers(), loss);
}

TEST(LayerBackward, OfSelfAttentionAgreesWithFiniteDifferences) {
  const MultiHeadAttentionConfig mha{.hidden_size = 6, .num_heads = 2};
  check_self_attention(mha, {});
  MultiHeadAttentionConfig llama{
      .hidden_size = 8, .num_heads = 4, .num_kv_heads = 2, .head_dim = 4, .value_dim = 3};
  llama.rope = RopeConfig{};
  llama.qkv_bias = llama.out_bias = true;
  check_self_attention(llama, {});
  llama.rope->style = RopeStyle::rotate_half;
  llama.rope->rotary_dim = 2;
  llama.qk_norm = QkNorm{};
  llama.scale = 0.7;
  check_self_attention(llama, {});
}

TEST(LayerBackward, OfScaledRotationsAgreesWithFiniteDifferences) {
  MultiHeadAttentionConfig config{.hidden_size = 8, .num_heads = 2, .num_kv_heads = 1};
  config.rope = RopeConfig{};
  // A factor on cos and sin, and frequencies that depend on the length.
  config.rope->scaling = YarnRopeScaling{.factor = 4, .original_max_position_embeddings = 4};
  check_self_attention(config, {});
  config.rope->scaling = DynamicNtkRopeScaling{.factor = 2, .max_position_embeddings = 3};
  check_self_attention(config, {});
}

TEST(LayerBackward, OfRaggedSequencesReadsNothingBehindThem) {
  MultiHeadAttentionConfig config{.hidden_size = 6, .num_heads = 3, .num_kv_heads = 1};
  config.rope = RopeConfig{};
  config.qkv_bias = config.out_bias = true;
  config.qk_norm = QkNorm{};
  const std::vector<Index> q_lens{3, 5};
  check_self_attention(config, q_lens);
  // Frequencies depend on a sequence's own length, not on the batch's.
  config.head_dim = 4;
  config.rope->scaling = DynamicNtkRopeScaling{.factor = 2, .max_position_embeddings = 3};
  check_self_attention(config, q_lens);
}

TEST(LayerBackward, OfCrossAttentionAgreesWithFiniteDifferences) {
  MultiHeadAttentionConfig config{
      .hidden_size = 6, .num_heads = 4, .num_kv_heads = 2, .head_dim = 3, .kv_hidden_size = 5};
  config.qkv_bias = config.out_bias = true;
  config.qk_norm = QkNorm{};
  Layer layer = random_layer<double>(config);
  auto x = random_hidden<double>(2, 3, 6, 1), memory = random_hidden<double>(2, 7, 5, 4);
  const auto dy = random_hidden<double>(2, 3, 6, 2);
  Hidden<double> y(x.dimensions()), dx(x.dimensions()), dmemory(memory.dimensions());
  const std::vector<Index> memory_lens{7, 4};
  AttentionRecord<double> record;
  const auto forward = [&] {
    layer.cross(x, memory, y, record, nullptr, NoMask{}, Serial{}, {}, memory_lens);
  };
  forward();
  AttentionWeights<double> gradients(layer.config());
  layer.cross_backward(x, memory, dy, dx, dmemory, record, gradients, nullptr, NoMask{}, Serial{},
                       {}, memory_lens);
  const auto loss = [&] {
    forward();
    return dot(y, dy);
  };
  expect_differences("dx", all(x), all(dx), loss);
  expect_differences("dmemory", all(memory), all(dmemory), loss);
  expect_differences("weights", layer.weights().numbers(), gradients.numbers(), loss);
}

TEST(LayerBackward, AddsToGradientsWithTheSameBitsForAnyNumberOfThreads) {
  MultiHeadAttentionConfig config{.hidden_size = 96, .num_heads = 6, .num_kv_heads = 2};
  config.rope = RopeConfig{};
  config.qkv_bias = true;
  config.qk_norm = QkNorm{};
  const auto layer = random_layer<double>(config);
  const auto x = random_hidden<double>(2, 150, 96, 1), dy = random_hidden<double>(2, 150, 96, 2);
  Hidden<double> y(x.dimensions());
  AttentionRecord<double> record;
  layer.forward(x, y, record);
  std::optional<AttentionWeights<double>> first;
  Hidden<double> first_dx;
  for (const Index threads : {1, 2, 3, 8}) {
    AttentionWeights<double> gradients(layer.config());
    Hidden<double> dx(x.dimensions());
    layer.backward(x, dy, dx, record, gradients, nullptr, Causal{}, TestExecutor{threads});
    if (!first) {
      first = std::move(gradients);
      first_dx = dx;
      continue;
    }
    EXPECT_EQ(std::memcmp(dx.data(), first_dx.data(),
                          static_cast<std::size_t>(dx.size()) * sizeof(double)),
              0);
    const auto a = gradients.numbers(), b = first->numbers();
    EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size_bytes()), 0);
    if (threads != 8) continue;
    layer.backward(x, dy, dx, record, gradients, nullptr, Causal{}, TestExecutor{threads});
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], 2 * b[i], 1e-9);
  }
}

TEST(LayerBackward, OfNoTokensIsNothing) {
  const Layer layer = random_layer<double>({.hidden_size = 8, .num_heads = 2});
  const Hidden<double> x(2, 0, 8);
  Hidden<double> y(2, 0, 8), dx(2, 0, 8);
  AttentionRecord<double> record;
  AttentionWeights<double> gradients(layer.config());
  layer.forward(x, y, record);
  layer.backward(x, y, dx, record, gradients);
  for (const double g : gradients.numbers()) EXPECT_EQ(g, 0);
}

TEST(LayerBackward, RefusesWhatDoesNotFit) {
  const Layer layer = random_layer<double>({.hidden_size = 8, .num_heads = 2});
  const auto x = random_hidden<double>(1, 5, 8), shorter = random_hidden<double>(1, 4, 8);
  Hidden<double> y(x.dimensions()), dx(x.dimensions());
  AttentionRecord<double> record;
  layer.forward(x, y, record);
  AttentionWeights<double> gradients(layer.config());
  const auto error = [&](const auto& dy, const auto& of, auto& weights) {
    return error_of([&] { layer.backward(x, dy, dx, of, weights); });
  };
  EXPECT_EQ(error(y, record, gradients), "no exception");
  EXPECT_EQ(error(shorter, record, gradients), "backward: x is [1, 5, 8], dy is [1, 4, 8]");
  EXPECT_EQ(error(y, AttentionRecord<double>(), gradients),
            "backward: the record is of queries [1, 0, 0, 0] and keys [1, 0, 0, 0], expected "
            "[1, 5, 2, 4] and [1, 5, 2, 4]");
  AttentionRecord<double> other;
  random_layer<double>({.hidden_size = 8, .num_heads = 2, .value_dim = 3}).forward(x, y, other);
  EXPECT_EQ(error(y, other, gradients), "backward: the record is of a value_dim of 3, expected 4");
  Layer normed = random_layer<double>({.hidden_size = 8, .num_heads = 2, .qk_norm = QkNorm{}});
  AttentionWeights<double> normed_gradients(normed.config());
  EXPECT_EQ(error_of([&] { normed.backward(x, y, dx, record, normed_gradients); }),
            "backward: the record is of a layer without QK-norm");
  AttentionWeights<double> narrow(resolved({.hidden_size = 8, .num_heads = 2, .num_kv_heads = 1}));
  EXPECT_EQ(error(y, record, narrow), "backward: a gradient is [4, 8], its weight [8, 8]");
  EXPECT_EQ(
      error_of([&] { layer.backward(x, y, dx, record, gradients, nullptr, Alibi::standard(4)); }),
      "Alibi has 4 slopes for num_heads 2");
}

}  // namespace
}  // namespace gqa::test
