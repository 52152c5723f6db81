// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The parts of a trainer: gradients of the layers around attention against finite differences, the
// optimiser against PyTorch's numbers.
#include <gtest/gtest.h>

#include <array>

#include "llama/optimizer.hpp"
#include "llama/training_model.hpp"
#include "support/errors.hpp"
#include "support/random.hpp"

namespace gqa::examples {
namespace {

using Matrix = RowMatrix<double>;

Matrix random_matrix(test::Random& random, Index rows, Index cols) {
  Matrix matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = random.normal();
  return matrix;
}

/// Central differences of the fourth order of loss() in all elements of x, against `gradient`.
template <typename F>
void expect_differences(const char* what, Matrix& x, const Matrix& gradient, F loss) {
  for (Index i = 0; i < x.size(); ++i) {
    double& element = x.data()[i];
    const double before = element, h = 1e-3;
    const auto at = [&](double shift) {
      element = before + shift;
      return loss();
    };
    const double quotient = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    element = before;
    ASSERT_NEAR(gradient.data()[i], quotient, 1e-9) << what << ", " << i;
  }
}

TEST(TrainingLayers, SwiGluAgreesWithFiniteDifferences) {
  test::Random random(1);
  SwiGlu<double> layer(4, 6), gradients(4, 6);
  layer.gate = random_matrix(random, 6, 4);
  layer.up = random_matrix(random, 6, 4);
  layer.down = random_matrix(random, 4, 6);
  Matrix x = random_matrix(random, 5, 4), y, dx;
  const Matrix dy = random_matrix(random, 5, 4);
  SwiGlu<double>::Record record;
  const auto loss = [&] {
    layer.forward(x, y, record);
    return (y.array() * dy.array()).sum();
  };
  loss();
  layer.backward(x, dy, record, dx, gradients);
  expect_differences("dx", x, dx, loss);
  expect_differences("gate", layer.gate, gradients.gate, loss);
  expect_differences("up", layer.up, gradients.up, loss);
  expect_differences("down", layer.down, gradients.down, loss);
  // Gradients of weights are added to.
  loss();
  const Matrix once = gradients.down;
  layer.backward(x, dy, record, dx, gradients);
  EXPECT_TRUE(gradients.down.isApprox(2 * once, 1e-14));
}

TEST(TrainingLayers, EmbeddingAgreesWithFiniteDifferences) {
  test::Random random(2);
  Matrix embedding = random_matrix(random, 5, 3), gradient = Matrix::Zero(5, 3), x;
  const std::vector<std::int32_t> tokens{4, 0, 4, 2};  // one twice, some never
  const Matrix dx = random_matrix(random, 4, 3);
  embed_backward<double>(tokens, dx, gradient);
  expect_differences("embedding", embedding, gradient, [&] {
    embed<double>(tokens, embedding, x);
    return (x.array() * dx.array()).sum();
  });
  EXPECT_EQ(test::error_of([&] { embed<double>(std::vector{5}, embedding, x); }),
            "token 5 is outside of a vocabulary of 5");
}

TEST(TrainingLayers, CrossEntropyAgreesWithFiniteDifferences) {
  test::Random random(3);
  Matrix logits = 3 * random_matrix(random, 4, 7);
  const std::vector<std::int32_t> targets{6, -1, 0, 3};  // the second counts neither way
  Matrix gradient = logits;
  const double loss = cross_entropy<double>(gradient, targets);
  double expected = 0;
  for (const Index i : {0, 2, 3}) {
    const double sum = logits.row(i).array().exp().sum();
    expected += std::log(sum) - logits(i, targets[static_cast<std::size_t>(i)]);
  }
  EXPECT_NEAR(loss, expected / 3, 1e-12);
  expect_differences("logits", logits, gradient, [&] {
    Matrix copy = logits;
    return cross_entropy<double>(copy, targets);
  });
  // Logits that e^x overflows.
  Matrix large = Matrix::Constant(1, 2, 1000);
  EXPECT_NEAR(cross_entropy<double>(large, std::vector{1}), std::log(2.0), 1e-12);
  EXPECT_EQ(test::error_of([&] {
              cross_entropy<double>(logits, std::vector{0, 1});
            }),
            "there are 2 targets for 4 rows of logits");
  EXPECT_EQ(test::error_of([&] {
              cross_entropy<double>(logits, std::vector{0, 1, 7, 2});
            }),
            "target 7 is outside of a vocabulary of 7");
}

TEST(TrainableLlama, AgreesWithFiniteDifferences) {
  TrainableLlama<double> model({.hidden_size = 8,
                                .intermediate_size = 12,
                                .num_layers = 2,
                                .num_heads = 4,
                                .num_kv_heads = 2,
                                .vocab_size = 7,
                                .max_len = 5},
                               1);
  test::Random random(4);
  model.for_each_parameter([&](const auto&, std::span<double> weights, auto, bool) {
    for (double& w : weights) w += 0.3 * random.normal();  // larger than they begin
  });
  const std::vector<std::int32_t> tokens{1, 5, 0, 3, 2, 6, 4, 4, 1, 0};
  const std::vector<std::int32_t> targets{5, 0, 3, 2, 6, 4, 4, -1, 0, 2};
  const auto loss = [&] { return model.loss(tokens, targets, 2); };
  EXPECT_DOUBLE_EQ(model.loss_and_gradients(tokens, targets, 2), loss());
  model.for_each_parameter(
      [&](const std::string& name, std::span<double> weights, std::span<double> gradients, bool) {
        for (std::size_t i = 0; i<weights.size(); i += weights.size()> 20 ? 5 : 1) {
          const double before = weights[i], h = 3e-4;
          const auto at = [&](double shift) {
            weights[i] = before + shift;
            return loss();
          };
          const double quotient = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
          weights[i] = before;
          ASSERT_NEAR(gradients[i], quotient, 1e-9) << name << ", " << i;
        }
      });
  EXPECT_EQ(test::error_of([&] { model.loss(tokens, targets, 3); }),
            "a batch of 3 doesn't divide 10 tokens");
}

TEST(TrainableLlama, GradientsAreTheSameBitsForAnyNumberOfThreads) {
  // More than one stretch of tokens, and of the feed-forward layers' rows.
  const LlamaConfig config{.hidden_size = 24,
                           .intermediate_size = 72,
                           .num_layers = 2,
                           .num_heads = 4,
                           .num_kv_heads = 2,
                           .vocab_size = 70,
                           .max_len = 130};
  test::Random random(6);
  std::vector<std::int32_t> tokens(5 * 130), targets(tokens.size());
  for (auto& token : tokens) token = static_cast<std::int32_t>(random.integer(0, 69));
  for (auto& token : targets) token = static_cast<std::int32_t>(random.integer(-1, 69));
  const auto gradients_with = [&](Index threads, double& loss) {
    Eigen::ThreadPool pool(static_cast<int>(threads));
    TrainableLlama<float> model(config, 3);
    loss = model.loss_and_gradients(tokens, targets, 5, EigenPool(pool, threads));
    std::vector<float> all;
    model.for_each_parameter([&](const auto&, auto, std::span<float> gradients, bool) {
      all.insert(all.end(), gradients.begin(), gradients.end());
    });
    return all;
  };
  double loss = 0, same_loss = 0;
  const std::vector<float> expected = gradients_with(1, loss);
  EXPECT_NEAR(loss, std::log(70.0), 0.1);
  for (const Index threads : {2, 3}) {
    EXPECT_EQ(gradients_with(threads, same_loss), expected) << threads;
    EXPECT_EQ(same_loss, loss) << threads;
  }
}

TEST(TrainableLlama, LearnsASequenceByHeart) {
  TrainableLlama<float> model({.hidden_size = 32,
                               .intermediate_size = 64,
                               .num_layers = 2,
                               .num_heads = 4,
                               .num_kv_heads = 2,
                               .vocab_size = 10,
                               .max_len = 32},
                              2);
  test::Random random(5);
  std::vector<std::int32_t> text(33);
  for (auto& token : text) token = static_cast<std::int32_t>(random.integer(0, 9));
  const std::span<const std::int32_t> all(text);
  std::vector<AdamW> optimizers;
  model.for_each_parameter([&](const auto&, auto weights, auto, bool decays) {
    optimizers.emplace_back(weights.size(), AdamWOptions{.weight_decay = decays ? 0.1 : 0.0});
  });
  const double first = model.loss(all.first(32), all.last(32), 1);
  // Nearly uniform; a token is a little like itself, the classifier being the embedding.
  EXPECT_NEAR(first, std::log(10.0), 0.2);
  double loss = first;
  for (int step = 0; step < 150; ++step) {
    model.zero_gradients();
    loss = model.loss_and_gradients(all.first(32), all.last(32), 1);
    auto optimizer = optimizers.begin();
    model.for_each_parameter([&](const auto&, auto weights, auto gradients, bool) {
      (optimizer++)->step(weights, gradients, 0.01);
    });
  }
  EXPECT_LT(loss, 0.05);
}

TEST(Optimizer, AdamWTakesTheStepsOfPyTorch) {
  // torch 2.5.1: AdamW([w], betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1).
  AdamW optimizer(3, {});
  std::vector<float> w{0.5f, -1.25f, 2.0f};
  struct Step {
    std::array<float, 3> gradient;
    double learning_rate;
    std::array<float, 3> expected;
  };
  for (const Step& step : {
           Step{{0.3f, -2.0f, 0.0f}, 0.1, {0.395000011f, -1.13749993f, 1.98000002f}},
           Step{{-0.1f, 1.0f, 1e-3f}, 0.05, {0.372809678f, -1.11839402f, 1.93335259f}},
           Step{{0.2f, 0.5f, -4.0f}, 0.02, {0.359894663f, -1.11490691f, 1.94194758f}},
       }) {
    optimizer.step(w, step.gradient, step.learning_rate);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(w[i], step.expected[i], 2e-6) << i;
  }
  EXPECT_EQ(optimizer.steps(), 3);
  EXPECT_EQ(test::error_of([&] { optimizer.step(w, std::vector<float>(2), 0.1); }),
            "AdamW of 3 weights was given 3 and 2 gradients");
}

TEST(Optimizer, CosineScheduleRisesAndFalls) {
  const CosineSchedule rate{.peak = 2, .floor = 0.5, .warmup_steps = 4, .total_steps = 14};
  EXPECT_DOUBLE_EQ(rate(0), 0.5);
  EXPECT_DOUBLE_EQ(rate(3), 2);
  EXPECT_DOUBLE_EQ(rate(4), 2);
  EXPECT_DOUBLE_EQ(rate(9), 1.25);  // half way down
  EXPECT_DOUBLE_EQ(rate(14), 0.5);
  EXPECT_DOUBLE_EQ(rate(1000), 0.5);
}

TEST(Optimizer, ClippingKeepsTheDirectionAndBoundsTheNorm) {
  std::vector<float> a{3, 0}, b{0, 4};
  const std::vector<std::span<float>> gradients{a, b};
  EXPECT_DOUBLE_EQ(clip_gradients(gradients, 10), 5);
  EXPECT_EQ(a, (std::vector<float>{3, 0}));
  EXPECT_DOUBLE_EQ(clip_gradients(gradients, 1), 5);
  EXPECT_FLOAT_EQ(a[0], 0.6f);
  EXPECT_FLOAT_EQ(b[1], 0.8f);
}

}  // namespace
}  // namespace gqa::examples
