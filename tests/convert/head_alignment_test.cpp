// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include <gtest/gtest.h>

#include <gqa/convert/head_alignment.hpp>
#include <gqa/convert/layer_pooling.hpp>
#include <numbers>

#include "module/layer.hpp"
#include "support/errors.hpp"

namespace gqa {
namespace {

using test::error_of;
using test::random_layer;
using Matrix = test::Matrix<double>;
using Layer = MultiHeadAttention<double>;

Matrix forward(const Layer& layer, const Matrix& x) {
  Matrix y(x.rows(), layer.config().hidden_size);
  layer.forward(x, y);
  return y;
}

double largest_difference(const Matrix& a, const Matrix& b) {
  return (a - b).cwiseAbs().maxCoeff();
}

RopeConfig rope(RopeStyle style, Index rotary_dim = 0) {
  RopeConfig config;
  config.style = style;
  config.rotary_dim = rotary_dim;
  return config;
}

/// Layers of every kind that changes what may be turned.
std::vector<MultiHeadAttentionConfig> configs() {
  const MultiHeadAttentionConfig plain{.hidden_size = 24, .num_heads = 8, .head_dim = 6};
  std::vector<MultiHeadAttentionConfig> all;
  for (const RopeStyle style : {RopeStyle::interleaved, RopeStyle::rotate_half}) {
    auto c = plain;
    c.rope = rope(style);
    all.push_back(c);
    c.num_kv_heads = 4;  // already grouped
    c.qkv_bias = c.out_bias = true;
    c.value_dim = 5;
    all.push_back(c);
    c.rope = rope(style, 4);  // two channels that rope leaves alone
    all.push_back(c);
    c.qk_norm = QkNorm{};
    all.push_back(c);
  }
  all.push_back(plain);  // no rope: keys turn as freely as values
  return all;
}

TEST(HeadAlignment, AlignedLayersComputeWhatTheyDidBefore) {
  const Matrix x = test::random_matrix<double>(17, 24, 3);
  const Matrix calibration = test::random_matrix<double>(50, 24, 4);
  for (const auto& config : configs()) {
    const Index kv_heads = config.num_kv_heads == 0 ? 8 : config.num_kv_heads;
    for (const Index to : {Index{1}, Index{2}, kv_heads}) {
      for (const bool calibrated : {false, true}) {
        Layer layer = random_layer<double>(config);
        const Matrix before = forward(layer, x);
        HeadAlignment options{.num_kv_heads = to};
        if (calibrated) options.second_moments = calibration.transpose() * calibration;
        align_heads(layer, options);
        EXPECT_LE(largest_difference(forward(layer, x), before), 1e-10);
      }
    }
  }
}

/// A layer whose KV heads 0, 2 and 1, 3 are the same but for rotations that rope allows.
Layer layer_of_turned_copies(RopeStyle style) {
  const Index dim = 6;
  Layer layer = random_layer<double>(
      {.hidden_size = 24, .num_heads = 8, .num_kv_heads = 4, .head_dim = dim, .rope = rope(style)});
  for (const Index copy : {2, 3}) {
    for (Index i = 0; i < dim / 2; ++i) {
      const bool halves = style == RopeStyle::rotate_half;
      const Index a = halves ? i : 2 * i, b = halves ? i + dim / 2 : 2 * i + 1;
      const double angle = 0.7 * static_cast<double>(i + copy);
      const auto ka = layer.wk().row((copy - 2) * dim + a),
                 kb = layer.wk().row((copy - 2) * dim + b);
      layer.wk().row(copy * dim + a) = std::cos(angle) * ka - std::sin(angle) * kb;
      layer.wk().row(copy * dim + b) = std::sin(angle) * ka + std::cos(angle) * kb;
    }
    const Eigen::HouseholderQR<Matrix> qr(test::random_matrix<double>(dim, dim, 40));
    const Matrix turn = qr.householderQ();
    layer.wv().middleRows(copy * dim, dim) = turn * layer.wv().middleRows((copy - 2) * dim, dim);
  }
  return layer;
}

TEST(HeadAlignment, TurnedCopiesOfAHeadAreFoundAndPoolWithoutLoss) {
  const Matrix x = test::random_matrix<double>(17, 24, 3);
  for (const RopeStyle style : {RopeStyle::interleaved, RopeStyle::rotate_half}) {
    Layer layer = layer_of_turned_copies(style);
    const Matrix before = forward(layer, x);
    EXPECT_GT(largest_difference(forward(pool_layer(layer, 2), x), before), 0.1);
    const auto order = align_heads(layer, {.num_kv_heads = 2});
    EXPECT_EQ(order.size(), 4U);
    EXPECT_EQ((order[0] + order[1]) % 2, 0);  // 0 with 2, 1 with 3
    LayerPoolingError error;
    const Layer pooled = pool_layer(layer, 2, HeadPoolingMethod::mean, 1, &error);
    EXPECT_EQ(pooled.config().num_kv_heads, 2);
    EXPECT_LE(largest_difference(forward(pooled, x), before), 1e-10);
    EXPECT_LE(error.keys, 1e-10);
    EXPECT_LE(error.values, 1e-10);
  }
}

LayerPoolingError lost_after(Layer layer, const HeadAlignment& options) {
  align_heads(layer, options);
  LayerPoolingError error;
  pool_layer(layer, options.num_kv_heads, HeadPoolingMethod::mean, 1, &error);
  return error;
}

TEST(HeadAlignment, PoolingLosesLessOfAlignedHeads) {
  for (const auto& config : configs()) {
    if (config.qk_norm) continue;
    for (const Index to : {1, 2}) {
      LayerPoolingError before;
      pool_layer(random_layer<double>(config), to, HeadPoolingMethod::mean, 1, &before);
      const auto after =
          lost_after(random_layer<double>(config), {.num_kv_heads = to, .regroup = false});
      EXPECT_LT(after.keys, before.keys);
      EXPECT_LT(after.values, before.values);
    }
  }
}

TEST(HeadAlignment, PairsThatAreAlikeLoseLessThanNeighbours) {
  for (const auto& config : configs()) {
    if (config.qkv_bias) continue;  // counts when heads are compared, but not in the error
    const auto squares = [&](bool regroup) {
      const auto error =
          lost_after(random_layer<double>(config), {.num_kv_heads = 4, .regroup = regroup});
      return error.keys * error.keys + error.values * error.values;
    };
    EXPECT_LT(squares(true), squares(false));
  }
}

TEST(HeadAlignment, PooledLayersKeepEverythingElse) {
  const Layer layer = random_layer<double>({.hidden_size = 24,
                                            .num_heads = 8,
                                            .num_kv_heads = 4,
                                            .head_dim = 6,
                                            .qkv_bias = true,
                                            .out_bias = true,
                                            .qk_norm = QkNorm{}});
  for (const auto method :
       {HeadPoolingMethod::mean, HeadPoolingMethod::first, HeadPoolingMethod::random}) {
    const Layer pooled = pool_layer(layer, 2, method);
    using enum AttentionWeight;
    EXPECT_EQ(pooled.weights().matrix(wq), layer.weights().matrix(wq));
    EXPECT_EQ(pooled.weights().matrix(wo), layer.weights().matrix(wo));
    for (const auto weight : {bq, bo, q_norm, k_norm}) {
      EXPECT_EQ(pooled.weights().vector(weight), layer.weights().vector(weight));
    }
    EXPECT_EQ(pooled.weights().matrix(wk).rows(), 12);
    EXPECT_NE(pooled.weights().vector(bk), pooled.weights().vector(bv));
  }
  EXPECT_EQ(pool_layer(layer, 2).weights().matrix(AttentionWeight::wv),
            mean_pool_heads(layer.weights().matrix(AttentionWeight::wv), {.from = 4, .to = 2}));
}

TEST(HeadAlignment, WhatDoesNotFitIsRefusedAndChangesNothing) {
  Layer layer = random_layer<double>({.hidden_size = 24, .num_heads = 8, .num_kv_heads = 4});
  const Matrix before = layer.wk();
  EXPECT_EQ(error_of([&] { align_heads(layer, {.num_kv_heads = 3}); }),
            "heads to make, 3, do not divide the heads there are, 4");
  EXPECT_EQ(error_of([&] {
              align_heads(layer, {.num_kv_heads = 2, .second_moments = Eigen::MatrixXd(3, 24)});
            }),
            "second_moments are [3, 24], kv_hidden_size is 24");
  EXPECT_EQ(error_of([&] {
              const Eigen::MatrixXd diagonal =
                  Eigen::VectorXd::LinSpaced(24, -1.0, 2.0).asDiagonal();
              align_heads(layer, {.num_kv_heads = 2, .second_moments = diagonal});
            }),
            "second_moments are not those of any inputs");
  EXPECT_EQ(error_of([&] {
              align_heads(layer,
                          {.num_kv_heads = 2, .second_moments = Eigen::MatrixXd::Zero(24, 24)});
            }),
            "second_moments have a trace of 0.000000");
  Layer broken = random_layer<double>({.hidden_size = 24, .num_heads = 8, .num_kv_heads = 4});
  Matrix wv = broken.weights().matrix(AttentionWeight::wv);
  wv(3, 5) = std::numeric_limits<double>::infinity();
  broken.set_weight("v_proj.weight", wv);
  EXPECT_EQ(error_of([&] { align_heads(broken, {.num_kv_heads = 2}); }),
            "a projection of keys or values has numbers that are not finite");
  EXPECT_EQ(error_of([&] { pool_layer(layer, 0); }),
            "the numbers of heads must be positive, are 4 and 0");
  EXPECT_EQ(layer.wk(), before);
}

}  // namespace
}  // namespace gqa
