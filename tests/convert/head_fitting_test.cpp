// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include <gtest/gtest.h>

#include <gqa/convert/head_fitting.hpp>
#include <gqa/convert/layer_pooling.hpp>

#include "module/layer.hpp"
#include "support/errors.hpp"

namespace gqa {
namespace {

using test::error_of;
using test::Hidden;
using test::random_hidden;
using test::random_layer;
using Layer = MultiHeadAttention<double>;
using detail::AttentionJacobian;
using detail::Dense;
using detail::LayerVector;

std::vector<MultiHeadAttentionConfig> configs() {
  RopeConfig interleaved, halves;
  interleaved.style = RopeStyle::interleaved;
  halves.style = RopeStyle::rotate_half;
  halves.rotary_dim = 4;
  return {{.hidden_size = 12, .num_heads = 4, .num_kv_heads = 2, .head_dim = 6},
          {.hidden_size = 12,
           .num_heads = 3,
           .num_kv_heads = 1,
           .head_dim = 6,
           .value_dim = 5,
           .qkv_bias = true,
           .out_bias = true,
           .rope = interleaved},
          {.hidden_size = 12,
           .num_heads = 2,
           .num_kv_heads = 2,
           .head_dim = 6,
           .rope = halves,
           .scale = 0.7}};
}

LayerVector<double> weights_of(const Layer& layer) {
  LayerVector<double> v(layer.config());
  v.part(0) = layer.weights().matrix(AttentionWeight::wq);
  v.part(1) = layer.weights().matrix(AttentionWeight::wk);
  v.part(2) = layer.weights().matrix(AttentionWeight::wv);
  v.part(3) = layer.weights().matrix(AttentionWeight::wo);
  return v;
}

LayerVector<double> random_vector(const Layer& layer, unsigned seed) {
  LayerVector<double> v(layer.config());
  v.values() = test::random_matrix<double>(v.values().size(), 1, seed);
  return v;
}

double dot(const std::vector<Dense<double>>& a, const std::vector<Dense<double>>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i].cwiseProduct(b[i]).sum();
  return sum;
}

class Jacobian : public ::testing::TestWithParam<std::size_t> {
 protected:
  const Layer layer_ = random_layer<double>(configs()[GetParam()]);
  // More tokens than a block of queries has, and fewer.
  const std::vector<Dense<double>> x_ = {test::random_matrix<double>(70, 12, 5),
                                         test::random_matrix<double>(9, 12, 6)};
  std::optional<RopeTable<double>> rope_ = [this] {
    const auto& c = layer_.config();
    return c.rope ? std::optional(RopeTable<double>(*c.rope, c.head_dim)) : std::nullopt;
  }();

  AttentionJacobian<double> at(const LayerVector<double>& weights) const {
    return {layer_, rope_ ? &*rope_ : nullptr, x_, weights};
  }
};

TEST_P(Jacobian, ItsPointIsTheLayersOutput) {
  const auto jacobian = at(weights_of(layer_));
  for (std::size_t s = 0; s < x_.size(); ++s) {
    Dense<double> y(x_[s].rows(), 12);
    layer_.forward(x_[s], y);
    EXPECT_LE((jacobian.y(s) - y).cwiseAbs().maxCoeff(), 1e-12);
  }
}

TEST_P(Jacobian, PushIsTheDerivative) {
  const auto weights = weights_of(layer_), direction = random_vector(layer_, 20);
  const auto pushed = at(weights).push(direction);
  const double h = 1e-5;
  auto ahead = weights, behind = weights;
  ahead.values() += h * direction.values();
  behind.values() -= h * direction.values();
  const auto after = at(ahead), before = at(behind);
  for (std::size_t s = 0; s < x_.size(); ++s) {
    const Dense<double> expected = (after.y(s) - before.y(s)) / (2 * h);
    EXPECT_LE((pushed[s] - expected).norm(), 1e-7 * expected.norm());
  }
}

TEST_P(Jacobian, PullIsTheTransposeOfPush) {
  const auto jacobian = at(weights_of(layer_));
  const auto d = random_vector(layer_, 30);
  const std::vector<Dense<double>> r = {test::random_matrix<double>(70, 12, 31),
                                        test::random_matrix<double>(9, 12, 32)};
  const double forward = dot(jacobian.push(d), r);
  const double backward = d.values().dot(jacobian.pull(r).values());
  EXPECT_NEAR(forward, backward, 1e-11 * std::abs(forward));
}

INSTANTIATE_TEST_SUITE_P(Configs, Jacobian, ::testing::Range<std::size_t>(0, 3));

/// What a layer gives for x, [batch, tokens, hidden_size].
Hidden<double> outputs(const Layer& layer, const Hidden<double>& x) {
  Hidden<double> y(x.dimension(0), x.dimension(1), x.dimension(2));
  layer.forward(x, y);
  return y;
}

TEST(HeadFitting, FindsALayerThatGivesTheOutputs) {
  for (const auto& config : configs()) {
    const Layer wanted = random_layer<double>(config);
    const auto x = random_hidden<double>(6, 40, 12);
    const auto y = outputs(wanted, x);
    Layer layer = random_layer<double>(config);
    layer.wq() += test::random_matrix<double>(layer.wq().rows(), 12, 50, 0.03);
    layer.wk() += test::random_matrix<double>(layer.wk().rows(), 12, 51, 0.03);
    layer.wv() *= 1.1;
    const auto report = fit_heads(layer, x, y, {.rounds = 20, .steps = 60, .tolerance = 0});
    EXPECT_GT(report.error_before, 1e-3);
    EXPECT_LT(report.error_after, 1e-8);
    // The report is about the weights that the layer then has, and text that it was not fitted to
    // agrees, too.
    const auto other = random_hidden<double>(2, 40, 12, 9);
    const Hidden<double> difference = outputs(layer, other) - outputs(wanted, other);
    const Eigen::Tensor<double, 0, Eigen::RowMajor> largest = difference.abs().maximum();
    EXPECT_LT(largest(), 1e-2);
  }
}

TEST(HeadFitting, PooledHeadsComeNearerToTheOnesTheyStandFor) {
  auto config = configs()[1];
  config.num_heads = config.num_kv_heads = 4;
  const Layer whole = random_layer<double>(config);
  const auto x = random_hidden<double>(6, 40, 12);
  const auto y = outputs(whole, x);
  Layer pooled = pool_layer(whole, 2);
  const Dense<double> bk = pooled.weights().vector(AttentionWeight::bk);
  const auto report = fit_heads(pooled, x, y);
  EXPECT_LT(report.error_after, 0.5 * report.error_before);
  EXPECT_GT(report.rounds, 0);
  EXPECT_EQ(pooled.weights().vector(AttentionWeight::bk), bk);
  const Hidden<double> difference = outputs(pooled, x) - y;
  const Eigen::Tensor<double, 0, Eigen::RowMajor> left = difference.square().sum();
  const Eigen::Tensor<double, 0, Eigen::RowMajor> size = y.square().sum();
  EXPECT_NEAR(left() / size(), report.error_after, 1e-9);
}

TEST(HeadFitting, LayersThatAreRightAlreadyStayAsTheyAre) {
  Layer layer = random_layer<double>(configs()[0]);
  const auto x = random_hidden<double>(2, 20, 12);
  const auto y = outputs(layer, x);
  const Dense<double> before = layer.wq();
  const auto report = fit_heads(layer, x, y, {.rounds = 2});
  EXPECT_LT(report.error_after, 1e-24);
  EXPECT_LE((layer.wq() - before).cwiseAbs().maxCoeff(), 1e-10);
  EXPECT_EQ(fit_heads(layer, x, outputs(layer, x), {.rounds = 0}).rounds, 0);
}

TEST(HeadFitting, ConstantInputsDoNotMakeWeightsInfinite) {
  Layer layer = random_layer<double>(configs()[0]);
  Hidden<double> x(2, 20, 12), y = random_hidden<double>(2, 20, 12);
  x.setConstant(0.5);
  const auto report = fit_heads(layer, x, y);
  EXPECT_LE(report.error_after, report.error_before);
  EXPECT_TRUE(layer.wq().allFinite() && layer.wk().allFinite());
  EXPECT_LT(layer.wo().cwiseAbs().maxCoeff(), 1e3);
  x.setZero();
  fit_heads(layer, x, y);
  EXPECT_TRUE(layer.wo().allFinite());
}

TEST(HeadFitting, WhatDoesNotFitIsRefused) {
  Layer layer = random_layer<double>(configs()[0]);
  const auto x = random_hidden<double>(2, 20, 12);
  const auto fit = [&](const Hidden<double>& in, const Hidden<double>& out,
                       const HeadFitting& options) {
    return error_of([&] { fit_heads(layer, in, out, options); });
  };
  EXPECT_EQ(fit(random_hidden<double>(2, 20, 13), x, {}),
            "fit_heads: x is [2, 20, 13], hidden_size is 12");
  EXPECT_EQ(fit(x, random_hidden<double>(2, 21, 12), {}),
            "fit_heads: x is [2, 20, 12], y is [2, 21, 12]");
  EXPECT_EQ(fit(random_hidden<double>(0, 20, 12), random_hidden<double>(0, 20, 12), {}),
            "fit_heads: no tokens to calibrate on");
  EXPECT_EQ(fit(x, x, {.damping = 0}), "fit_heads: rounds 8, steps 15, damping 0.000000");
  auto config = configs()[0];
  config.qk_norm = QkNorm{};
  Layer normed = random_layer<double>(config);
  EXPECT_EQ(error_of([&] { fit_heads(normed, x, x); }),
            "fit_heads: layers for cross-attention or with QK-norm are not supported");
}

}  // namespace
}  // namespace gqa
