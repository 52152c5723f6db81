// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What is done to keys before they are rounded changes no attention, and lets fewer bits do.
#include "gqa/ops/hadamard.hpp"

#include <gtest/gtest.h>

#include "gqa/cache/contiguous.hpp"
#include "gqa/cache/storage_error.hpp"
#include "gqa/kernel/reference.hpp"
#include "gqa/kernel/rows_kv.hpp"
#include "support/errors.hpp"
#include "support/random.hpp"

namespace gqa::test {
namespace {

TestTensor<double> normal(const TensorShape& shape, std::uint64_t seed) {
  Random random(seed);
  return random_tensor<double>(random, shape, 1, Layout::gaps);
}

TEST(Hadamard, IsTheMatrixOfItsDefinition) {
  for (const Index dim : {1, 2, 3, 4, 12, 64, 96}) {
    const Index block = hadamard_block(dim);
    EXPECT_EQ(block, dim == 3 ? 1 : dim == 12 ? 4 : dim == 96 ? 32 : dim);
    TestTensor<double> x = normal({2, 3, 2, dim}, 1), y = x;
    apply_hadamard(y.view());
    for (Index t = 0; t < 3; ++t) {
      for (Index i = 0; i < dim; ++i) {
        double sum = 0;  // entry (i, j) is (-1)^(the bits that i and j share), i and j in the block
        for (Index j = 0; j < block; ++j) {
          const int sign = __builtin_popcountll(static_cast<unsigned long long>(i % block & j)) % 2;
          sum += (sign ? -1 : 1) * x.row(1, t, 1)[i / block * block + j];
        }
        ASSERT_NEAR(y.row(1, t, 1)[i], sum / std::sqrt(double(block)), 1e-14) << dim << " " << i;
      }
    }
    apply_hadamard(y.view());
    for (Index i = 0; i < dim; ++i) ASSERT_NEAR(y.row(0, 2, 0)[i], x.row(0, 2, 0)[i], 1e-14);
  }
}

struct Problem {
  TestTensor<double> q = normal({1, 5, 4, 24}, 1), k = normal({1, 40, 2, 24}, 2),
                     v = normal({1, 40, 2, 6}, 3);

  std::pair<TestTensor<double>, std::vector<double>> attend() const {
    std::pair<TestTensor<double>, std::vector<double>> result(TensorShape{1, 5, 4, 6},
                                                              std::vector<double>(20));
    ReferenceOptions<double> options;
    options.lse = LseView<double>(result.second.data(), 1, 4, 5);
    reference(q.view(), rows_kv(k.view(), v.view()), result.first.view(), Causal{}, options);
    return result;
  }
};

TEST(Hadamard, OfQueriesAndKeysChangesNoAttention) {
  Problem p;
  const auto expected = p.attend();
  apply_hadamard(p.q.view());
  apply_hadamard(p.k.view());
  const auto actual = p.attend();
  for (Index i = 0; i < 5; ++i) {
    for (Index c = 0; c < 6; ++c) {
      ASSERT_NEAR(actual.first.row(0, i, 3)[c], expected.first.row(0, i, 3)[c], 1e-13);
    }
  }
  for (std::size_t r = 0; r < 20; ++r) ASSERT_NEAR(actual.second[r], expected.second[r], 1e-13);
}

TEST(KeyMeanOf, KeysIsTheMeanAndShiftsTheLseAlone) {
  Problem p;
  for (Index t = 0; t < 40; ++t) p.k.row(0, t, 1)[7] += 30;
  const auto expected = p.attend();
  const KeyMean<double> mean(p.k.view());
  double sum = 0;
  for (Index t = 0; t < 40; ++t) sum += p.k.row(0, t, 1)[7];
  EXPECT_NEAR(mean.head(1)[7], sum / 40, 1e-13);
  mean.subtract_from(p.k.view());
  const auto actual = p.attend();
  for (Index i = 0; i < 5; ++i) {
    for (Index h = 0; h < 4; ++h) {
      for (Index c = 0; c < 6; ++c) {
        ASSERT_NEAR(actual.first.row(0, i, h)[c], expected.first.row(0, i, h)[c], 1e-12);
      }
      const auto r = static_cast<std::size_t>(h * 5 + i);
      const double shift = mean.shift(p.q.row(0, i, h), h / 2, 1 / std::sqrt(24.0));
      ASSERT_NEAR(actual.second[r] + shift, expected.second[r], 1e-12);
    }
  }
  EXPECT_EQ(error_of([&] { mean.subtract_from(p.q.view()); }),
            "KeyMean::subtract_from: keys have 4 heads of 24, the mean 2 of 24");
  const TestTensor<double> none({1, 0, 2, 3});
  EXPECT_EQ(KeyMean<double>(none.view()).head(1)[2], 0.0);
}

/// Keys of which one channel is much larger than the others, as models have them, and of one sign.
TestTensor<float> keys_with_an_outlier() {
  Random random(5);
  TestTensor<float> k({1, 50, 2, 64});
  k.fill_normal(random);
  for (Index t = 0; t < 50; ++t) k.row(0, t, 1)[9] += 40;
  return k;
}
template <typename Storage>
StorageError error_of_storing(const TestTensor<float>& k) {
  KvCache<Storage> cache({.capacity = 50, .heads = {2, 2, 64}});
  cache.append(k.view(), k.view());
  return storage_error(cache, 0, 0, k.view(), k.view());
}

TEST(StorageErrorOf, Int4IsLessWithRotationAndMeanSubtracted) {
  TestTensor<float> plain = keys_with_an_outlier(), rotated = plain, centred = plain;
  apply_hadamard(rotated.view());
  KeyMean<float>(plain.view()).subtract_from(centred.view());
  const auto absolute = [](const TestTensor<float>& k) {
    double square = 0;
    for (Index t = 0; t < 50; ++t) {
      for (Index c = 0; c < 64; ++c) square += double{k.row(0, t, 1)[c]} * k.row(0, t, 1)[c];
    }
    return error_of_storing<Int4>(k).keys.relative_rms * std::sqrt(square);
  };
  EXPECT_LT(absolute(rotated), 0.6 * absolute(plain));
  EXPECT_LT(absolute(centred), 0.2 * absolute(plain));
}

TEST(StorageErrorOf, FloatIsNothingAndOfInt8HalfAStepAtMost) {
  const TestTensor<float> k = keys_with_an_outlier();
  const StorageError none = error_of_storing<float>(k), some = error_of_storing<Int8>(k);
  EXPECT_EQ(none.keys.relative_rms, 0);
  EXPECT_EQ(none.values.largest, 0);
  EXPECT_GT(some.keys.largest, 0.2 * 40 / 127);
  EXPECT_LT(some.keys.largest, 0.501 * 45 / 127);
  EXPECT_EQ(some.keys.relative_rms, some.values.relative_rms);
  KvCache<float> cache({.capacity = 50, .heads = {2, 2, 64}});
  cache.append(k.view(), k.view());
  TestTensor<float> other = k;
  other.row(0, 20, 1)[3] += 1;
  other.row(0, 21, 0)[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(storage_error(cache, 0, 0, other.view(), k.view()).keys.largest));
  const auto part =
      storage_error(cache, 0, 20, other.view().tokens_slice(20, 1), k.view().tokens_slice(20, 1));
  EXPECT_NEAR(part.keys.largest, 1, 1e-6);
  EXPECT_EQ(part.values.largest, 0);
}

TEST(KeyMean, OfMoreChannelsThanMemoryHasIsRefused) {
  const float row[1] = {};
  const TensorView<const float> keys(row, {1, 0, Index{1} << 40, Index{1} << 40}, {});
  EXPECT_EQ(error_of<std::length_error>([&] { KeyMean<float> mean(keys); }),
            "KeyMean: 1099511627776 x 1099511627776 x 8 bytes are more than 63 bits count");
}

}  // namespace
}  // namespace gqa::test
