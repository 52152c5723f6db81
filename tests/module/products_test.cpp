// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The products of projections and of their gradients, over sizes that fill no tile, for the
// instruction set that this is compiled for. Everything that doesn't belong to an operand is NaN:
// the numbers between its rows, before and after it.
#include <gtest/gtest.h>

#include <cmath>
#include <gqa/module/linear_backward.hpp>
#include <limits>
#include <random>
#include <vector>

#include "support/isa.hpp"

namespace gqa {
namespace {

/// [batch, tokens, 1, width] with `gap` numbers between rows and twice as many between sequences.
template <typename T>
class Poisoned {
 public:
  Poisoned(Index batch, Index tokens, Index width, Index gap, unsigned seed)
      : batch_(batch),
        tokens_(tokens),
        width_(width),
        stride_(width + gap),
        sequence_(tokens * stride_ + 2 * gap),
        numbers_(static_cast<std::size_t>(margin + batch * sequence_ + margin),
                 std::numeric_limits<T>::quiet_NaN()) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> uniform(-1, 1);
    for (Index b = 0; b < batch; ++b) {
      for (Index t = 0; t < tokens; ++t) {
        for (Index c = 0; c < width; ++c) at(b, t, c) = static_cast<T>(uniform(random));
      }
    }
  }

  T& at(Index b, Index t, Index c) { return data()[b * sequence_ + t * stride_ + c]; }
  T* data() { return numbers_.data() + margin; }
  TensorView<T> view() {
    return {data(),
            {batch_, tokens_, 1, width_},
            {.batch = sequence_, .token = stride_, .head = width_}};
  }
  TensorView<const T> read() { return view(); }

  /// Is all that doesn't belong to it still NaN?
  bool is_whole() {
    Index finite = 0;
    for (const T& x : numbers_) finite += std::isnan(x) ? 0 : 1;
    return finite == batch_ * tokens_ * width_;
  }

 private:
  static constexpr Index margin = 37;
  Index batch_, tokens_, width_, stride_, sequence_;
  std::vector<T> numbers_;
};

/// Sum of products in double, with the tolerance of a sum in T: Higham and Mary 2019, its roundings
/// behave as a random walk.
template <typename T>
class Sum {
 public:
  explicit Sum(T first = 0) { add(first, 1); }
  void add(T x, T y) {
    value_ += double(x) * double(y);
    magnitude_ += std::abs(double(x) * double(y));
    ++count_;
  }
  double value() const { return value_; }
  double tolerance() const {
    return std::numeric_limits<T>::epsilon() * magnitude_ * std::sqrt(double(count_));
  }

 private:
  double value_ = 0, magnitude_ = 0;
  Index count_ = 0;
};

struct Size {
  Index tokens, in, out;
};
/// Around tiles (1, 2, 4, 6, 8, 12), blocks (48, 64), registers (2 to 16 lanes) and chunks of depth
/// (32, 64, 512, 1024).
std::vector<Size> sizes() {
  std::vector<Size> result;
  for (const Index tokens : {1, 2, 3, 4, 5, 7, 12, 13, 47, 49, 65}) {
    for (const Index in : {1, 3, 16, 31, 65, 130}) {
      for (const Index out : {1, 2, 5, 8, 11, 48, 50, 67}) {
        if (!test::emulated || (tokens + in + out) % 5 == 0) result.push_back({tokens, in, out});
      }
    }
  }
  for (const Index in : {511, 513, 1023, 1025, 2100}) {
    result.push_back({5, in, 9});
    result.push_back({3, 9, in});
  }
  result.push_back({1100, 7, 5});
  return result;
}

template <typename T>
class ProductsOf : public ::testing::Test {
 protected:
  void SetUp() override { GQA_TEST_SKIP_FOREIGN_ISA(); }
  Serial serial;
};
using Reals = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ProductsOf, Reals);

TYPED_TEST(ProductsOf, ProjectionIsTheFormulaAndTouchesNothingElse) {
  using T = TypeParam;
  for (const Size& size : sizes()) {
    const Index tokens = size.tokens, in = size.in, out = size.out;
    const bool has_bias = (tokens + in + out) % 2 == 0;
    const Index batch = (tokens + in) % 3 == 0 ? 2 : 1, gap = (tokens + out) % 4;
    Poisoned<T> x(batch, tokens, in, gap, 1), w(1, out, in, 0, 2), bias(1, 1, out, 0, 3);
    Poisoned<T> y(batch, tokens, out, 3, 4);
    detail::linear(x.read(), detail::WeightRows<const T>(w.data(), out, in),
                   has_bias ? bias.data() : nullptr, y.view(), this->serial);
    ASSERT_TRUE(y.is_whole());
    for (Index b = 0; b < batch; ++b) {
      for (Index t = 0; t < tokens; ++t) {
        for (Index o = 0; o < out; ++o) {
          Sum<T> expected(has_bias ? bias.at(0, 0, o) : T(0));
          for (Index i = 0; i < in; ++i) expected.add(x.at(b, t, i), w.at(0, o, i));
          ASSERT_NEAR(y.at(b, t, o), expected.value(), expected.tolerance())
              << "tokens " << tokens << " in " << in << " out " << out << " output " << o;
        }
      }
    }
  }
}

TYPED_TEST(ProductsOf, BitsOfATokenDontDependOnHowManyAreComputedTogether) {
  using T = TypeParam;
  for (const Size& size : {Size{131, 1100, 50}, Size{131, 75, 129}, Size{131, 5, 3}}) {
    const Index most = size.tokens, in = size.in, out = size.out;
    Poisoned<T> x(1, most, in, 0, 1), w(1, out, in, 0, 2), dy(1, most, out, 0, 3);
    const detail::WeightRows<const T> weight(w.data(), out, in);
    Poisoned<T> y_alone(1, most, out, 0, 4), dx_alone(1, most, in, 0, 5);
    for (Index t = 0; t < most; ++t) {
      const auto one = [t](auto view) { return view.tokens_slice(t, 1); };
      detail::linear(one(x.read()), weight, static_cast<const T*>(nullptr), one(y_alone.view()),
                     this->serial);
      detail::linear_backward_input(one(dy.read()), weight, one(dx_alone.view()), {}, false,
                                    this->serial);
    }
    for (const Index tokens : {2, 3, 4, 5, 8, 9, 48, 64, 67, 131}) {
      const auto some = [tokens](auto view) { return view.tokens_slice(0, tokens); };
      Poisoned<T> y(1, tokens, out, 1, 6), dx(1, tokens, in, 1, 7);
      detail::linear(some(x.read()), weight, static_cast<const T*>(nullptr), y.view(),
                     this->serial);
      detail::linear_backward_input(some(dy.read()), weight, dx.view(), {}, false, this->serial);
      for (Index t = 0; t < tokens; ++t) {
        for (Index o = 0; o < out; ++o) ASSERT_EQ(y.at(0, t, o), y_alone.at(0, t, o)) << tokens;
        for (Index i = 0; i < in; ++i) ASSERT_EQ(dx.at(0, t, i), dx_alone.at(0, t, i)) << tokens;
      }
    }
  }
}

TYPED_TEST(ProductsOf, GradientOfTheInputIsTheFormulaAndTouchesNothingElse) {
  using T = TypeParam;
  for (const Size& size : sizes()) {
    const Index tokens = size.tokens, in = size.in, out = size.out;
    const bool add = (tokens + in + out) % 2 == 0;
    const Index batch = (tokens + in) % 3 == 0 ? 2 : 1, gap = (tokens + out) % 4;
    std::vector<Index> lengths;
    if (in % 2 == 0) lengths = batch == 2 ? std::vector<Index>{tokens / 2, tokens} : lengths;
    Poisoned<T> dy(batch, tokens, out, gap, 1), w(1, out, in, 0, 2), dx(batch, tokens, in, 3, 3);
    Poisoned<T> before = dx;
    detail::linear_backward_input(dy.read(), detail::WeightRows<const T>(w.data(), out, in),
                                  dx.view(), lengths, add, this->serial);
    ASSERT_TRUE(dx.is_whole());
    for (Index b = 0; b < batch; ++b) {
      const Index length = lengths.empty() ? tokens : lengths[static_cast<std::size_t>(b)];
      for (Index t = 0; t < tokens; ++t) {
        for (Index i = 0; i < in; ++i) {
          Sum<T> expected(add ? before.at(b, t, i) : T(0));
          for (Index o = 0; t < length && o < out; ++o) {
            expected.add(dy.at(b, t, o), w.at(0, o, i));
          }
          ASSERT_NEAR(dx.at(b, t, i), expected.value(), expected.tolerance())
              << "tokens " << tokens << " in " << in << " out " << out << " input " << i;
        }
      }
    }
  }
}

TYPED_TEST(ProductsOf, GradientsOfWeightsAreTheFormulaAndTouchNothingElse) {
  using T = TypeParam;
  for (const Size& size : sizes()) {
    const Index tokens = size.tokens, in = size.in, out = size.out;
    const Index batch = (tokens + in) % 3 == 0 ? 2 : 1, gap = (tokens + out) % 4;
    std::vector<Index> lengths;
    if (in % 2 == 0) lengths = batch == 2 ? std::vector<Index>{tokens / 2, tokens} : lengths;
    Poisoned<T> dy(batch, tokens, out, gap, 1), x(batch, tokens, in, 1, 2);
    Poisoned<T> dw(1, out, in, 0, 3), dbias(1, 1, out, 0, 4);
    Poisoned<T> dw_before = dw, dbias_before = dbias;
    for (Index b = 0; b < batch && !lengths.empty(); ++b) {  // tokens after the lengths aren't read
      for (Index t = lengths[static_cast<std::size_t>(b)]; t < tokens; ++t) {
        std::fill_n(&dy.at(b, t, 0), out, std::numeric_limits<T>::quiet_NaN());
      }
    }
    detail::linear_backward_weight(dy.read(), x.read(), detail::WeightRows<T>(dw.data(), out, in),
                                   dbias.data(), lengths, this->serial);
    ASSERT_TRUE(dw.is_whole() && dbias.is_whole());
    for (Index o = 0; o < out; ++o) {
      const auto each_token = [&](auto f) {
        for (Index b = 0; b < batch; ++b) {
          const Index length = lengths.empty() ? tokens : lengths[static_cast<std::size_t>(b)];
          for (Index t = 0; t < length; ++t) f(b, t);
        }
      };
      Sum<T> of_bias(dbias_before.at(0, 0, o));
      each_token([&](Index b, Index t) { of_bias.add(dy.at(b, t, o), 1); });
      ASSERT_NEAR(dbias.at(0, 0, o), of_bias.value(), of_bias.tolerance());
      for (Index i = 0; i < in; ++i) {
        Sum<T> expected(dw_before.at(0, o, i));
        each_token([&](Index b, Index t) { expected.add(dy.at(b, t, o), x.at(b, t, i)); });
        ASSERT_NEAR(dw.at(0, o, i), expected.value(), expected.tolerance())
            << "tokens " << tokens << " in " << in << " out " << out << " input " << i;
      }
    }
  }
}

TYPED_TEST(ProductsOf, InfinitiesStayInTheirRow) {
  using T = TypeParam;
  const Index tokens = 5, in = 19, out = 13;  // every tile repeats rows or fills with zeros
  Poisoned<T> x(1, tokens, in, 0, 1), w(1, out, in, 0, 2), y(1, tokens, out, 0, 3);
  x.at(0, tokens - 1, in - 1) = std::numeric_limits<T>::infinity();
  w.at(0, out - 1, 0) = std::numeric_limits<T>::infinity();
  detail::linear(x.read(), detail::WeightRows<const T>(w.data(), out, in),
                 static_cast<const T*>(nullptr), y.view(), this->serial);
  for (Index t = 0; t < tokens; ++t) {
    for (Index o = 0; o < out; ++o) {
      ASSERT_EQ(std::isfinite(y.at(0, t, o)), t < tokens - 1 && o < out - 1);
    }
  }
}

}  // namespace
}  // namespace gqa
