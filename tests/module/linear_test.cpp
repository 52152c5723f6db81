// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The projections, around every size at which they take another way.
#include <gtest/gtest.h>

#include <gqa/module/linear.hpp>
#include <gqa/parallel/eigen_pool.hpp>
#include <random>
#include <vector>

namespace gqa {
namespace {

template <typename T>
std::vector<T> numbers(Index count, unsigned seed) {
  std::vector<T> result(static_cast<std::size_t>(count));
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  for (T& x : result) x = static_cast<T>(uniform(random));
  return result;
}

template <typename T>
class LinearOf : public ::testing::Test {};
using Reals = ::testing::Types<float, double>;
TYPED_TEST_SUITE(LinearOf, Reals);

TYPED_TEST(LinearOf, IsTheFormulaAroundEveryBlockSize) {
  using T = TypeParam;
  Eigen::ThreadPool threads(2);
  EigenPool pool(threads);
  const Serial serial;
  for (const Index tokens : {0, 1, 2, 8, 9, 63, 64, 65, 130}) {
    for (const Index in : {1, 7, 64, 255, 257, 511, 513}) {
      for (const Index out : {1, 15, 17, 63, 64, 65, 129}) {
        if (tokens * in * out > 2'000'000) continue;
        const auto x = numbers<T>(tokens * in, 1), w = numbers<T>(out * in, 2);
        const auto bias = numbers<T>(out, 3);
        const bool has_bias = (tokens + in + out) % 2 == 0;
        // NaN in y before: it must be written, not added to; and behind its rows, not touched.
        const Index stride = out + 3;
        const T nan = std::numeric_limits<T>::quiet_NaN();
        std::vector<T> y(static_cast<std::size_t>(tokens * stride), nan), y_pool = y;
        const auto run = [&](std::vector<T>& result, auto& executor) {
          detail::linear(TensorView<const T>(x.data(), {1, tokens, 1, in}),
                         ConstWeightMap<T>(w.data(), out, in), has_bias ? bias.data() : nullptr,
                         TensorView<T>(result.data(), {1, tokens, 1, out},
                                       {.batch = tokens * stride, .token = stride, .head = out}),
                         executor);
        };
        run(y, serial);
        run(y_pool, pool);
        for (Index t = 0; t < tokens; ++t) {
          for (Index o = 0; o < stride; ++o) {
            const T actual = y[static_cast<std::size_t>(t * stride + o)];
            if (o >= out) {
              ASSERT_TRUE(std::isnan(actual));
              continue;
            }
            double expected = has_bias ? double(bias[static_cast<std::size_t>(o)]) : 0;
            double magnitude = std::abs(expected);
            for (Index i = 0; i < in; ++i) {
              const double product = double(x[static_cast<std::size_t>(t * in + i)]) *
                                     double(w[static_cast<std::size_t>(o * in + i)]);
              expected += product;
              magnitude += std::abs(product);
            }
            // Higham and Mary 2019: roundings of a sum behave as a random walk
            const double tolerance = std::numeric_limits<T>::epsilon() * magnitude *
                                     std::sqrt(static_cast<double>(in + 1));
            ASSERT_NEAR(actual, expected, tolerance)
                << "tokens " << tokens << " in " << in << " out " << out;
            ASSERT_EQ(actual, y_pool[static_cast<std::size_t>(t * stride + o)]);
          }
        }
      }
    }
  }
}

TEST(Linear, TakesSequencesThatLieApart) {
  // [batch 3, tokens 12, 5] with 7 spare numbers between sequences, 2 between tokens.
  const Index batch = 3, tokens = 12, in = 5, out = 4;
  const auto x = numbers<float>(batch * (tokens * 7 + 7), 1), w = numbers<float>(out * in, 2);
  std::vector<float> y(static_cast<std::size_t>(batch * tokens * out));
  const TensorView<const float> rows(x.data(), {batch, tokens, 1, in},
                                     {.batch = tokens * 7 + 7, .token = 7, .head = in});
  const Serial serial;
  detail::linear(rows, ConstWeightMap<float>(w.data(), out, in), static_cast<const float*>(nullptr),
                 TensorView<float>(y.data(), {batch, tokens, 1, out}), serial);
  for (Index b = 0; b < batch; ++b) {
    for (Index t = 0; t < tokens; ++t) {
      for (Index o = 0; o < out; ++o) {
        double expected = 0;
        for (Index i = 0; i < in; ++i) {
          expected +=
              double(rows.row(b, t, 0)[i]) * double(w[static_cast<std::size_t>(o * in + i)]);
        }
        EXPECT_NEAR(y[static_cast<std::size_t>((b * tokens + t) * out + o)], expected, 1e-6);
      }
    }
  }
}

}  // namespace
}  // namespace gqa
