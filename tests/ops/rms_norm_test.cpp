// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include <gtest/gtest.h>

#include <gqa/ops/rms_norm.hpp>
#include <random>
#include <vector>

namespace gqa {
namespace {

/// The distance of 1 and the next number. (Eigen 3.4 says 2^-13 of half, which has 10 bits.)
template <typename T>
constexpr double epsilon_of() {
  if constexpr (std::same_as<T, half>) return 1.0 / 1024;
  if constexpr (std::same_as<T, bfloat16>) return 1.0 / 128;
  return static_cast<double>(std::numeric_limits<T>::epsilon());
}

template <typename T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <typename T>
Matrix<T> random_matrix(Index rows, Index cols, double spread = 1) {
  Matrix<T> matrix(rows, cols);
  std::mt19937 random(7);
  std::normal_distribution<double> normal(0, spread);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = static_cast<T>(normal(random));
  return matrix;
}

template <typename T>
class RmsNormOf : public ::testing::Test {};
using Scalars = ::testing::Types<float, double, bfloat16, half>;
TYPED_TEST_SUITE(RmsNormOf, Scalars);

TYPED_TEST(RmsNormOf, IsTheFormulaForAnyWidth) {
  using T = TypeParam;
  for (const Index dim : {1, 3, 7, 8, 9, 16, 64, 129, 1000}) {
    for (const double spread : {1e-4, 1.0, 100.0}) {
      const auto x = random_matrix<T>(3, dim, spread);
      const auto weight = random_matrix<T>(1, dim);
      Matrix<T> y(3, dim);
      rms_norm(x, std::span(weight.data(), static_cast<std::size_t>(dim)), y, 1e-6);
      for (Index r = 0; r < 3; ++r) {
        long double sum = 0;
        for (Index c = 0; c < dim; ++c) {
          sum += std::pow(static_cast<long double>(static_cast<double>(x(r, c))), 2.0L);
        }
        const long double scale = 1 / std::sqrt(sum / static_cast<long double>(dim) + 1e-6L);
        // three roundings to T, and those of a sum of dim / 8 squares in each of 8 double lanes
        const double eps = 2 * epsilon_of<T>() +
                           static_cast<double>(dim) / 16 * Eigen::NumTraits<double>::epsilon();
        for (Index c = 0; c < dim; ++c) {
          const auto expected = static_cast<double>(static_cast<double>(x(r, c)) * scale *
                                                    static_cast<double>(weight(0, c)));
          EXPECT_NEAR(static_cast<double>(y(r, c)), expected,
                      eps * std::max(std::abs(expected), 1e-3));
        }
      }
    }
  }
}

TEST(RmsNorm, WithoutWeightRowsHaveMeanSquareOne) {
  const auto x = random_matrix<float>(4, 37);
  Matrix<float> y(4, 37);
  rms_norm(x, std::span<const float>(), y, 0);
  for (Index r = 0; r < 4; ++r) EXPECT_NEAR(y.row(r).squaredNorm() / 37, 1, 1e-6);
}

TEST(RmsNorm, MayWriteOverItsInput) {
  const auto x = random_matrix<float>(4, 37);
  const auto weight = random_matrix<float>(1, 37);
  const std::span<const float> weights(weight.data(), 37);
  Matrix<float> y(4, 37), in_place = x;
  rms_norm(x, weights, y);
  rms_norm(in_place, weights, in_place);
  EXPECT_EQ(y, in_place);
}

TEST(RmsNorm, TakesMatricesTensorsBlocksAndViewsAlike) {
  const Index batch = 2, tokens = 3, dim = 10;
  auto x = random_matrix<float>(batch * tokens, dim);
  const auto weight = random_matrix<float>(1, dim);
  const std::span<const float> weights(weight.data(), static_cast<std::size_t>(dim));
  Matrix<float> expected(batch * tokens, dim);
  rms_norm(x, weights, expected);
  const auto expect_equal = [&](const float* y) {
    for (Index i = 0; i < expected.size(); ++i) EXPECT_EQ(y[i], expected.data()[i]);
  };

  Eigen::Tensor<float, 3, Eigen::RowMajor> y3(batch, tokens, dim);
  rms_norm(Eigen::TensorMap<Eigen::Tensor<float, 3, Eigen::RowMajor>>(x.data(), batch, tokens, dim),
           weights, y3);
  expect_equal(y3.data());

  Eigen::Tensor<float, 2, Eigen::RowMajor> y2(batch * tokens, dim);
  rms_norm(Eigen::TensorMap<Eigen::Tensor<const float, 2, Eigen::RowMajor>>(x.data(),
                                                                            batch * tokens, dim),
           weights, y2);
  expect_equal(y2.data());

  Eigen::Tensor<float, 4, Eigen::RowMajor> y4(1, batch, tokens, dim);
  rms_norm(TensorView<const float>(x.data(), {1, batch, tokens, dim}), weights, y4);
  expect_equal(y4.data());

  Matrix<float> wide = Matrix<float>::Constant(batch * tokens, dim + 3, 5);
  rms_norm(x, weights, wide.block(0, 1, batch * tokens, dim));
  const Matrix<float> inner = wide.block(0, 1, batch * tokens, dim);
  expect_equal(inner.data());
  for (Index r = 0; r < wide.rows(); ++r) {
    EXPECT_EQ(wide(r, 0), 5);
    EXPECT_EQ(wide(r, dim + 1), 5);
  }

  Matrix<float> y_of_vector(batch * tokens, dim);  // a weight may be an Eigen vector, too
  rms_norm(x, weight, y_of_vector);
  expect_equal(y_of_vector.data());

  Eigen::VectorXf one = x.row(0).transpose();
  rms_norm(one, weights, one);
  for (Index c = 0; c < dim; ++c) EXPECT_EQ(one(c), expected(0, c));
}

TEST(RmsNorm, SeveralLastDimensionsAreOneRowOfAView) {
  const auto x = random_matrix<float>(2, 15);  // [2, 3, 5], normalised over [3, 5]
  const auto weight = random_matrix<float>(1, 15);
  std::vector<float> y(30);
  const TensorShape shape{.batch = 1, .tokens = 2, .heads = 1, .dim = 15};
  rms_norm(TensorView<const float>(x.data(), shape), std::span(weight.data(), 15),
           TensorView<float>(y.data(), shape), 0.1);
  for (Index r = 0; r < 2; ++r) {
    const double scale = 1 / std::sqrt(x.row(r).cast<double>().squaredNorm() / 15 + 0.1);
    for (Index c = 0; c < 15; ++c) {
      EXPECT_NEAR(y[static_cast<std::size_t>(15 * r + c)], x(r, c) * scale * weight(0, c), 1e-6);
    }
  }
}

TEST(RmsNorm, LongRowsOfHalfDoNotOverflow) {
  const Matrix<half> x = Matrix<half>::Constant(1, 5000, half(300.0f));  // squares exceed 65504
  Matrix<half> y(1, 5000);
  rms_norm(x, std::span<const half>(), y);
  EXPECT_EQ(static_cast<float>(y(0, 4999)), 1.0f);
}

TEST(RmsNormBackward, AgreesWithFiniteDifferences) {
  auto x = random_matrix<double>(3, 7, 2);
  const auto dy = random_matrix<double>(3, 7, 3);
  Matrix<double> weight = random_matrix<double>(1, 7, 4), dweight = Matrix<double>::Zero(1, 7);
  Matrix<double> y(3, 7), dx(3, 7);
  const double eps = 0.1;
  const auto loss = [&] {
    rms_norm(x, std::span(weight.data(), 7), y, eps);
    return (y.array() * dy.array()).sum();
  };
  const auto derivative = [&](double& number) {
    const double before = number, h = 1e-3;
    const auto at = [&](double shift) {
      number = before + shift;
      return loss();
    };
    const double result = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    number = before;
    return result;
  };
  rms_norm_backward(x, std::span(weight.data(), 7), dy, dx, std::span(dweight.data(), 7), eps);
  for (Index i = 0; i < x.size(); ++i) EXPECT_NEAR(dx.data()[i], derivative(x.data()[i]), 1e-9);
  for (Index i = 0; i < 7; ++i) EXPECT_NEAR(dweight(i), derivative(weight.data()[i]), 1e-9);

  // In place, added once more, and without a weight.
  Matrix<double> in_place = dy, twice = dweight;
  rms_norm_backward(x, std::span(weight.data(), 7), in_place, in_place, std::span(twice.data(), 7),
                    eps);
  EXPECT_EQ(in_place, dx);
  EXPECT_TRUE(twice.isApprox(2 * dweight, 1e-14));
  weight.setOnes();
  rms_norm_backward(x, std::span(weight.data(), 7), dy, in_place, std::span(twice.data(), 7), eps);
  rms_norm_backward(x, std::span<const double>(), dy, dx, std::span<double>(), eps);
  EXPECT_TRUE(dx.isApprox(in_place, 1e-14));
}

TEST(RmsNormErrors, NameTheNumbersThatDisagree) {
  const auto x = random_matrix<float>(2, 6);
  Matrix<float> y(2, 5), z(2, 6);
  const std::vector<float> weight(5);
  const auto error_of = [](auto&& f) -> std::string {
    try {
      f();
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "no std::invalid_argument";
  };
  EXPECT_EQ(error_of([&] { rms_norm(x, std::span(weight), y); }),
            "rms_norm: x has shape [1, 2, 1, 6], y [1, 2, 1, 5]");
  EXPECT_EQ(error_of([&] { rms_norm(x, std::span(weight), z); }),
            "rms_norm: the weight has 5 elements, rows have 6");
  std::vector<float> dweight(4);
  EXPECT_EQ(error_of([&] { rms_norm_backward(x, weight, x, y, dweight); }),
            "rms_norm_backward: x has shape [1, 2, 1, 6], dy [1, 2, 1, 6], dx [1, 2, 1, 5]");
  EXPECT_EQ(error_of([&] { rms_norm_backward(x, weight, x, z, dweight); }),
            "rms_norm_backward: the weight has 5 elements, rows have 6");
  const std::vector<float> fitting(6);
  EXPECT_EQ(error_of([&] { rms_norm_backward(x, fitting, x, z, dweight); }),
            "rms_norm_backward: dweight has 4 elements, the weight 6");
}

}  // namespace
}  // namespace gqa
