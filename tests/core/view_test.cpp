// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/core/view.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "gqa/core/eigen.hpp"
#include "gqa/core/scalar.hpp"
#include "support/errors.hpp"

namespace gqa::test {
namespace {

using Tensor4 = Eigen::Tensor<float, 4, Eigen::RowMajor>;
using Tensor3 = Eigen::Tensor<float, 3, Eigen::RowMajor>;

template <typename Tensor>
Tensor counting(auto... sizes) {
  Tensor tensor(sizes...);
  std::iota(tensor.data(), tensor.data() + tensor.size(), 0.0f);
  return tensor;
}

TEST(View, OfATensorIsBatchTokensHeadsDim) {
  const auto tensor = counting<Tensor4>(2, 3, 4, 5);
  const auto v = view(tensor);
  static_assert(std::same_as<decltype(v), const TensorView<const float>>);
  EXPECT_EQ(v.shape(), (TensorShape{2, 3, 4, 5}));
  EXPECT_EQ(v.data(), tensor.data());
  for (Index b = 0; b < 2; ++b) {
    for (Index t = 0; t < 3; ++t) {
      for (Index h = 0; h < 4; ++h) {
        for (Index c = 0; c < 5; ++c) EXPECT_EQ(v.row(b, t, h)[c], tensor(b, t, h, c));
      }
    }
  }
}

TEST(View, OfRank3IsOneSequence) {
  auto tensor = counting<Tensor3>(3, 4, 5);
  const auto v = view(tensor);
  static_assert(std::same_as<decltype(v), const TensorView<float>>);
  EXPECT_EQ(v.shape(), (TensorShape{1, 3, 4, 5}));
  EXPECT_EQ(v.row(0, 2, 1)[3], tensor(2, 1, 3));
  v.row(0, 2, 1)[3] = -1;  // a view writes through
  EXPECT_EQ(tensor(2, 1, 3), -1);
}

TEST(View, OfMapsCopiesNothing) {
  std::vector<float> memory(60);
  Eigen::TensorMap<Tensor3> map(memory.data(), 3, 4, 5);
  EXPECT_EQ(view(map).data(), memory.data());
  const Eigen::TensorMap<const Tensor4> constant(memory.data(), 1, 3, 4, 5);
  static_assert(std::same_as<decltype(view(constant)), TensorView<const float>>);
  EXPECT_EQ(view(constant).shape(), (TensorShape{1, 3, 4, 5}));
}

TEST(View, HeadsFirstIsOnlyOtherStrides) {
  const auto tensor = counting<Tensor4>(2, 4, 3, 5);  // [batch, heads, tokens, dim]
  const auto v = heads_first(tensor);
  EXPECT_EQ(v.shape(), (TensorShape{.batch = 2, .tokens = 3, .heads = 4, .dim = 5}));
  EXPECT_EQ(v.row(1, 2, 3)[4], tensor(1, 3, 2, 4));
  const auto one = counting<Tensor3>(4, 3, 5);
  EXPECT_EQ(heads_first(one).row(0, 2, 3)[1], one(3, 2, 1));
  EXPECT_EQ(heads_first(tensor.data(), {2, 3, 4, 5}).row(1, 2, 3), v.row(1, 2, 3));
}

TEST(View, SlicesTokensHeadsAndSequences) {
  const auto tensor = counting<Tensor4>(2, 6, 4, 5);
  const auto v = view(tensor);
  EXPECT_EQ(v.tokens_slice(2, 3).shape(), (TensorShape{2, 3, 4, 5}));
  EXPECT_EQ(v.tokens_slice(2, 3).row(1, 1, 2), v.row(1, 3, 2));
  EXPECT_EQ(v.heads_slice(1, 2).shape(), (TensorShape{2, 6, 2, 5}));
  EXPECT_EQ(v.heads_slice(1, 2).row(1, 1, 0), v.row(1, 1, 1));
  EXPECT_EQ(v.sequence(1).shape(), (TensorShape{1, 6, 4, 5}));
  EXPECT_EQ(v.sequence(1).row(0, 3, 2), v.row(1, 3, 2));
  EXPECT_EQ(v.tokens_slice(1, 4).heads_slice(2, 2).sequence(1).tokens_slice(1, 1).row(0, 0, 1),
            v.row(1, 2, 3));
  EXPECT_EQ(v.tokens_slice(6, 0).tokens(), 0);
}

TEST(View, SlicesOutsideThrowWithTheNumbers) {
  const auto tensor = counting<Tensor4>(2, 6, 4, 5);
  const auto v = view(tensor);
  EXPECT_EQ(error_of([&] { v.tokens_slice(4, 3); }), "tokens [4, 7) are outside of [2, 6, 4, 5]");
  EXPECT_EQ(error_of([&] { v.tokens_slice(-1, 3); }), "tokens [-1, 2) are outside of [2, 6, 4, 5]");
  EXPECT_EQ(error_of([&] { v.tokens_slice(4, -1); }), "tokens [4, 3) are outside of [2, 6, 4, 5]");
  EXPECT_EQ(error_of([&] { v.heads_slice(2, 3); }), "heads [2, 5) are outside of [2, 6, 4, 5]");
  EXPECT_EQ(error_of([&] { v.sequence(2); }), "sequence 2 is outside of [2, 6, 4, 5]");
  EXPECT_EQ(error_of([&] { v.sequence(-1); }), "sequence -1 is outside of [2, 6, 4, 5]");
}

TEST(View, OfAPointerIsChecked) {
  float memory[8] = {};
  EXPECT_EQ(TensorView<float>(memory, {1, 2, 2, 2}).row(0, 1, 1), memory + 6);
  EXPECT_EQ(error_of([&] {
              TensorView<float>(memory, {1, -2, 2, 2});
            }),
            "a TensorView has no negative size: [1, -2, 2, 2]");
  float* null = nullptr;
  EXPECT_EQ(error_of([&] {
              TensorView<float>(null, {1, 2, 2, 2});
            }),
            "a TensorView of shape [1, 2, 2, 2] needs data, got a null pointer");
  EXPECT_EQ(TensorView<float>(null, {1, 0, 2, 2}).tokens(), 0);  // nothing needs no data
}

TEST(View, OfMutableElementsIsOneOfConstOnes) {
  float memory[4] = {1, 2, 3, 4};
  const TensorView<const float> constant = TensorView<float>(memory, {1, 1, 2, 2}, {9, 8, 2});
  EXPECT_EQ(constant.strides().batch, 9);
  EXPECT_EQ(constant.row(0, 0, 1)[1], 4);
  static_assert(!std::convertible_to<TensorView<const float>, TensorView<float>>);
}

TEST(View, KnowsItsScalar) {
  static_assert(std::same_as<ScalarOf<Tensor4>, float>);
  static_assert(std::same_as<ScalarOf<const Tensor4>, float>);
  static_assert(std::same_as<ScalarOf<TensorView<const bfloat16>>, bfloat16>);
  SUCCEED();
}

TEST(LseView, IsBatchHeadsTokens) {
  Eigen::Tensor<float, 3, Eigen::RowMajor> tensor(2, 3, 4);
  const LseView<float> lse(tensor);
  lse(1, 2, 3) = 5;
  EXPECT_EQ(tensor(1, 2, 3), 5);
  EXPECT_TRUE(lse);
  EXPECT_FALSE(LseView<float>());
}

}  // namespace
}  // namespace gqa::test
