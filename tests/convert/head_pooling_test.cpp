// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include <gtest/gtest.h>

#include <array>
#include <gqa/convert/head_pooling.hpp>
#include <random>
#include <vector>

#include "support/errors.hpp"

namespace gqa {
namespace {

using test::error_of;

template <typename T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <typename T>
Matrix<T> random_matrix(Index rows, Index cols, unsigned seed = 5) {
  Matrix<T> matrix(rows, cols);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = static_cast<T>(normal(random));
  return matrix;
}

/// `heads` times the same head.
template <typename T>
Matrix<T> duplicated(const Matrix<T>& head, Index heads) {
  return head.replicate(heads, 1);
}

template <typename T>
class HeadPoolingOf : public ::testing::Test {};
using Scalars = ::testing::Types<float, double, bfloat16>;
TYPED_TEST_SUITE(HeadPoolingOf, Scalars);

TYPED_TEST(HeadPoolingOf, MeanIsTheNaiveMean) {
  using T = TypeParam;
  const Index dim = 3, in = 7;
  for (const auto& [from, to] : {std::pair{1, 1}, {4, 2}, {6, 2}, {6, 3}, {8, 1}, {12, 12}}) {
    const auto w = random_matrix<T>(from * dim, in);
    const Matrix<T> pooled = mean_pool_heads(w, {.from = from, .to = to});
    ASSERT_EQ(pooled.rows(), to * dim);
    ASSERT_EQ(pooled.cols(), in);
    for (Index row = 0; row < pooled.rows(); ++row) {
      for (Index c = 0; c < in; ++c) {
        long double sum = 0;
        const Index group = from / to;
        for (Index i = 0; i < group; ++i) {
          sum += static_cast<long double>(
              static_cast<double>(w((row / dim * group + i) * dim + row % dim, c)));
        }
        const auto mean = static_cast<double>(sum / static_cast<long double>(group));
        if constexpr (std::same_as<T, double>) {
          EXPECT_NEAR(pooled(row, c), mean, 1e-15);
        } else {
          EXPECT_EQ(pooled(row, c), convert<T>(mean));
        }
      }
    }
  }
}

TYPED_TEST(HeadPoolingOf, EqualHeadsPoolToThatVeryHead) {
  using T = TypeParam;
  const auto head = random_matrix<T>(5, 9);
  for (const Index group : {1, 2, 3, 7}) {
    const auto w = duplicated(head, 2 * group);
    const HeadPooling pooling{.from = 2 * group, .to = 2};
    const auto mean = mean_pool_heads(w, pooling), first = first_pool_heads(w, pooling);
    EXPECT_EQ(mean, duplicated(head, 2)) << group;
    EXPECT_EQ(first, duplicated(head, 2)) << group;
    EXPECT_EQ(head_pooling_error(w, mean, pooling), 0.0);
  }
}

TYPED_TEST(HeadPoolingOf, TransposedWeightsGiveTheTransposedResult) {
  using T = TypeParam;
  const auto w = random_matrix<T>(12, 5);
  const Matrix<T> wt = w.transpose();
  const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic> col_major = w;
  const std::vector<Index> order = {3, 0, 2, 1};
  const HeadPooling rows{.from = 4, .to = 2, .order = order};
  const HeadPooling columns{.from = 4, .to = 2, .transposed = true, .order = order};
  EXPECT_EQ(mean_pool_heads(wt, columns), Matrix<T>(mean_pool_heads(w, rows).transpose()));
  EXPECT_EQ(first_pool_heads(wt, columns), Matrix<T>(first_pool_heads(w, rows).transpose()));
  EXPECT_EQ(random_pool_heads(wt, columns, 3),
            Matrix<T>(random_pool_heads(w, rows, 3).transpose()));
  EXPECT_EQ(mean_pool_heads(col_major, rows), mean_pool_heads(w, rows));
  EXPECT_EQ(head_pooling_error(wt, mean_pool_heads(wt, columns), columns),
            head_pooling_error(w, mean_pool_heads(w, rows), rows));
}

TYPED_TEST(HeadPoolingOf, BiasesArePooledAsTheRowsOfTheirWeight) {
  using T = TypeParam;
  const auto w = random_matrix<T>(12, 1);
  const Eigen::Matrix<T, Eigen::Dynamic, 1> standing = w.col(0);
  const Eigen::Matrix<T, 1, Eigen::Dynamic> lying = w.col(0).transpose();
  const HeadPooling pooling{.from = 6, .to = 2};
  const Matrix<T> expected = mean_pool_heads(w, pooling);
  EXPECT_EQ(Matrix<T>(mean_pool_heads(standing, pooling)), expected);
  EXPECT_EQ(Matrix<T>(mean_pool_heads(lying, pooling).transpose()), expected);
  // Of a vector, there is only one way to lie.
  const HeadPooling transposed{.from = 6, .to = 2, .transposed = true};
  EXPECT_EQ(Matrix<T>(mean_pool_heads(standing, transposed)), expected);
}

TYPED_TEST(HeadPoolingOf, RandomHeadsHaveTheOldSpreadAndAreTheirSeeds) {
  using T = TypeParam;
  const auto w = random_matrix<T>(64, 128);
  const HeadPooling pooling{.from = 8, .to = 4};
  const Matrix<T> one = random_pool_heads(w, pooling, 1);
  ASSERT_EQ(one.rows(), 32);
  ASSERT_EQ(one.cols(), 128);
  EXPECT_EQ(one, random_pool_heads(w, pooling, 1));
  EXPECT_NE(one, random_pool_heads(w, pooling, 2));
  const auto spread = [](const Matrix<T>& m) {
    return std::sqrt(m.template cast<double>().squaredNorm() / static_cast<double>(m.size()));
  };
  EXPECT_NEAR(spread(one) / spread(w), 1.0, 0.03);
  EXPECT_NEAR(one.template cast<double>().mean(), 0.0, 0.05);
  EXPECT_LE(one.template cast<double>().cwiseAbs().maxCoeff(), spread(w) * std::sqrt(3.0) * 1.01);
}

TEST(HeadPooling, RandomHeadsAreTheSameOnEveryMachine) {
  const Matrix<float> w = Matrix<float>::Constant(4, 1, 1.0F);  // root mean square 1
  const Matrix<float> random = random_pool_heads(w, {.from = 4, .to = 2}, 42);
  // (2 u - 1) sqrt(3), u the top 53 bits of std::mt19937_64(42)'s first two numbers, which the
  // standard fixes: 13930160852258120406 and 11788048577503494824.
  EXPECT_EQ(random(0, 0), 0.88388469F);
  EXPECT_EQ(random(1, 0), 0.48161888F);
}

TEST(HeadPooling, FirstKeepsTheFirstHeadOfEachGroup) {
  const auto w = random_matrix<float>(12, 5);
  const Matrix<float> first = first_pool_heads(w, {.from = 6, .to = 2});
  EXPECT_EQ(first.topRows(2), w.topRows(2));
  EXPECT_EQ(first.bottomRows(2), w.middleRows(6, 2));
}

TEST(HeadPooling, AnOrderSaysWhichHeadsBecomeOne) {
  const auto w = random_matrix<float>(4, 5);
  const std::array<Index, 4> order = {2, 0, 3, 1};
  const Matrix<float> mean = mean_pool_heads(w, {.from = 4, .to = 2, .order = order});
  EXPECT_TRUE(mean.row(0).isApprox((w.row(2) + w.row(0)) / 2));
  EXPECT_TRUE(mean.row(1).isApprox((w.row(3) + w.row(1)) / 2));
  EXPECT_EQ(first_pool_heads(w, {.from = 4, .to = 2, .order = order}).row(1), w.row(3));
}

TEST(HeadPooling, PermutedHeadsStandInTheGivenOrder) {
  const auto w = random_matrix<float>(6, 4);
  const std::array<Index, 3> order = {2, 0, 1};
  const Matrix<float> permuted = permute_heads(w, order);
  EXPECT_EQ(permuted.topRows(2), w.bottomRows(2));
  EXPECT_EQ(permuted.bottomRows(4), w.topRows(4));
  const Matrix<float> wo = w.transpose();  // heads along the columns
  EXPECT_EQ(permute_heads(wo, order, true), Matrix<float>(permuted.transpose()));
  EXPECT_EQ(query_order(order, 2), (std::vector<Index>{4, 5, 0, 1, 2, 3}));
}

TEST(HeadPooling, TheErrorIsRelativeToTheOldHeads) {
  Matrix<double> w(2, 2);
  w << 1, 0,  //
      0, 1;   // two heads with nothing in common
  const HeadPooling pooling{.from = 2, .to = 1};
  EXPECT_DOUBLE_EQ(head_pooling_error(w, mean_pool_heads(w, pooling), pooling), std::sqrt(0.5));
  EXPECT_DOUBLE_EQ(head_pooling_error(w, first_pool_heads(w, pooling), pooling), 1.0);
  const Matrix<double> zero = Matrix<double>::Zero(2, 2);
  EXPECT_EQ(head_pooling_error(zero, mean_pool_heads(zero, pooling), pooling), 0.0);
}

TEST(HeadPooling, EmptyWeightsStayEmpty) {
  const Matrix<float> w(4, 0);
  EXPECT_EQ(mean_pool_heads(w, {.from = 4, .to = 2}).rows(), 2);
  EXPECT_EQ(random_pool_heads(w, {.from = 4, .to = 2}, 1).cols(), 0);
}

TEST(HeadPooling, WhatDoesNotFitIsRefusedWithItsNumbers) {
  const auto w = random_matrix<float>(12, 5);
  const auto pool = [&](const HeadPooling& pooling) {
    return error_of([&] { mean_pool_heads(w, pooling); });
  };
  EXPECT_EQ(pool({.from = 4, .to = 0}), "the numbers of heads must be positive, are 4 and 0");
  EXPECT_EQ(pool({.from = -4, .to = 2}), "the numbers of heads must be positive, are -4 and 2");
  EXPECT_EQ(pool({.from = 4, .to = 3}), "heads to make, 3, do not divide the heads there are, 4");
  EXPECT_EQ(pool({.from = 2, .to = 4}), "heads to make, 4, do not divide the heads there are, 2");
  EXPECT_EQ(pool({.from = 8, .to = 4}), "8 heads do not divide the 12 rows of a weight [12, 5]");
  EXPECT_EQ(pool({.from = 4, .to = 2, .transposed = true}),
            "4 heads do not divide the 5 columns of a weight [12, 5]");
  const auto with_order = [&](const std::vector<Index>& order) {
    return pool({.from = 4, .to = 2, .order = order});
  };
  EXPECT_EQ(with_order({0, 1, 2}), "the order has 3 heads, the weight 4");
  EXPECT_EQ(with_order({0, 1, 2, 4}), "the order has head 4 of a weight with 4");
  EXPECT_EQ(with_order({0, -1, 2, 3}), "the order has head -1 of a weight with 4");
  EXPECT_EQ(with_order({0, 1, 2, 1}), "the order has head 1 twice");
  EXPECT_EQ(error_of([&] { permute_heads(w, {}); }), "an order of no heads");
  EXPECT_EQ(error_of([&] {
              query_order(std::array<Index, 2>{0, 1}, 0);
            }),
            "group must be positive, is 0");
  EXPECT_EQ(error_of([&] {
              query_order(std::array<Index, 2>{0, 2}, 1);
            }),
            "the order has head 2 of a weight with 2");
  const HeadPooling pooling{.from = 4, .to = 2};
  EXPECT_EQ(error_of([&] { head_pooling_error(w, random_matrix<float>(6, 4), pooling); }),
            "weights [12, 5] and [6, 4] are not heads of one size");
}

}  // namespace
}  // namespace gqa
