// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What KvCache refuses: with both numbers, and without a change to a single byte.
#include <gtest/gtest.h>

#include "cache_memory.hpp"
#include "support/errors.hpp"
#include "support/random.hpp"

namespace gqa::test {
namespace {

TEST(ContiguousOptions, AreChecked) {
  using Options = KvCache<float>::Options;
  const auto error = [](const Options& options) {
    return error_of([&] { KvCache<float> cache(options); });
  };
  EXPECT_EQ(error({.batch = 0, .capacity = 8, .heads = {2, 1, 8}}),
            "KvCache: batch must be positive, is 0");
  EXPECT_EQ(error({.batch = -3, .capacity = 8, .heads = {2, 1, 8}}),
            "KvCache: batch must be positive, is -3");
  EXPECT_EQ(error({.capacity = -1, .heads = {2, 1, 8}}),
            "KvCache: capacity must not be negative, is -1");
  EXPECT_EQ(error({.capacity = 8}),
            "KvCache: heads are not set: num_kv_heads 0, head_dim 0, value_dim 0");
}

TEST(ContiguousOptions, OfMoreBytesThanCanBeCountedAreRefused) {
  const auto error = [](Index batch, Index capacity) {
    return error_of<std::length_error>([&] {
      KvCache<float> cache({.batch = batch, .capacity = capacity, .heads = {64, 64, 128}});
    });
  };
  EXPECT_EQ(error(Index{1} << 20, Index{1} << 40),
            "KvCache: 1048576 x 64 x 17179869185 x 65536 bytes are more than 63 bits count");
  EXPECT_EQ(error(1, std::numeric_limits<Index>::max()),
            "KvCache: 1 x 64 x 144115188075855872 x 65536 bytes are more than 63 bits count");
}

/// A cache with tokens in it, and the check that an operation fails and changes nothing.
class ContiguousErrors : public testing::Test {
 protected:
  ContiguousErrors() {
    Random random(1);
    const auto k = random_tensor<float>(random, {2, 70, 2, 8});
    const auto v = random_tensor<float>(random, {2, 70, 2, 5});
    cache.append(k.view(), v.view(), std::vector<Index>{70, 60});
  }

  template <typename Error = std::invalid_argument>
  std::string error_without_change(auto operation) {
    const CacheMemory before(cache);
    const std::string error = error_of<Error>(operation);
    EXPECT_TRUE(CacheMemory(cache) == before) << error;
    return error;
  }
  static TestTensor<float> tensor(const TensorShape& shape) {
    TestTensor<float> ones(shape);
    ones.fill(1);
    return ones;
  }

  KvCache<float> cache{{.batch = 2, .capacity = 100, .heads = {4, 2, 8, 5}}};
};

TEST_F(ContiguousErrors, AppendOfOtherShapes) {
  const auto error = [&](const TensorShape& k, const TensorShape& v) {
    return error_without_change([&] { cache.append(tensor(k).view(), tensor(v).view()); });
  };
  EXPECT_EQ(error({1, 3, 2, 8}, {1, 3, 2, 5}),
            "KvCache::append: keys are [1, 3, 2, 8], expected [2, 3, 2, 8]");
  EXPECT_EQ(error({2, 3, 4, 8}, {2, 3, 2, 5}),
            "KvCache::append: keys are [2, 3, 4, 8], expected [2, 3, 2, 8]");
  EXPECT_EQ(error({2, 3, 2, 9}, {2, 3, 2, 5}),
            "KvCache::append: keys are [2, 3, 2, 9], expected [2, 3, 2, 8]");
  EXPECT_EQ(error({2, 3, 2, 8}, {2, 3, 2, 8}),
            "KvCache::append: values are [2, 3, 2, 8], expected [2, 3, 2, 5]");
  EXPECT_EQ(error({2, 3, 2, 8}, {2, 4, 2, 5}),
            "KvCache::append: values are [2, 4, 2, 5], expected [2, 3, 2, 5]");
}

TEST_F(ContiguousErrors, AppendToASequenceThatIsNotThere) {
  const auto error = [&](Index sequence) {
    return error_without_change([&] {
      cache.append(sequence, tensor({1, 3, 2, 8}).view(), tensor({1, 3, 2, 5}).view());
    });
  };
  EXPECT_EQ(error(2), "KvCache::append: sequence 2 is outside of a batch of 2");
  EXPECT_EQ(error(-1), "KvCache::append: sequence -1 is outside of a batch of 2");
  EXPECT_EQ(error_without_change([&] {
              cache.append(0, tensor({2, 3, 2, 8}).view(), tensor({2, 3, 2, 5}).view());
            }),
            "KvCache::append: keys are [2, 3, 2, 8], expected [1, 3, 2, 8]");
}

TEST_F(ContiguousErrors, AppendBeyondTheCapacityOfOneSequenceChangesNone) {
  // Sequence 0 holds 70 of 100, sequence 1 holds 60.
  EXPECT_EQ(error_without_change<std::length_error>([&] {
              cache.append(tensor({2, 31, 2, 8}).view(), tensor({2, 31, 2, 5}).view());
            }),
            "KvCache::append: 31 tokens on top of 70 exceed the capacity of 100 (sequence 0)");
  EXPECT_EQ(error_without_change<std::length_error>([&] {
              cache.append(tensor({2, 41, 2, 8}).view(), tensor({2, 41, 2, 5}).view(),
                           std::vector<Index>{5, 41});
            }),
            "KvCache::append: 41 tokens on top of 60 exceed the capacity of 100 (sequence 1)");
  EXPECT_EQ(error_without_change<std::length_error>([&] {
              cache.append(1, tensor({1, 41, 2, 8}).view(), tensor({1, 41, 2, 5}).view());
            }),
            "KvCache::append: 41 tokens on top of 60 exceed the capacity of 100 (sequence 1)");
  cache.append(tensor({2, 40, 2, 8}).view(), tensor({2, 40, 2, 5}).view(),
               std::vector<Index>{30, 40});
  EXPECT_EQ(cache.length(0), 100);  // to the brim is fine
  EXPECT_EQ(cache.length(1), 100);
}

TEST_F(ContiguousErrors, CountsThatDoNotFit) {
  const auto error = [&](const std::vector<Index>& counts) {
    return error_without_change([&] {
      cache.append(tensor({2, 3, 2, 8}).view(), tensor({2, 3, 2, 5}).view(), counts);
    });
  };
  EXPECT_EQ(error({1}), "KvCache::append: 1 counts for a batch of 2");
  EXPECT_EQ(error({1, 1, 1}), "KvCache::append: 3 counts for a batch of 2");
  EXPECT_EQ(error({1, 4}), "KvCache::append: a count of 4 is outside of [0, 3]");
  EXPECT_EQ(error({-1, 1}), "KvCache::append: a count of -1 is outside of [0, 3]");
}

TEST_F(ContiguousErrors, TruncateToMoreThanThereIs) {
  EXPECT_EQ(error_without_change([&] { cache.truncate(0, 71); }),
            "KvCache::truncate: length 71 is outside of [0, 70] (sequence 0)");
  EXPECT_EQ(error_without_change([&] { cache.truncate(1, -1); }),
            "KvCache::truncate: length -1 is outside of [0, 60] (sequence 1)");
  EXPECT_EQ(error_without_change([&] { cache.truncate_all(65); }),
            "KvCache::truncate: length 65 is outside of [0, 60] (sequence 1)");
  EXPECT_EQ(error_without_change([&] { cache.truncate(2, 0); }),
            "KvCache::truncate: sequence 2 is outside of a batch of 2");
  EXPECT_EQ(error_without_change([&] { cache.clear(-1); }),
            "KvCache::truncate: sequence -1 is outside of a batch of 2");
}

TEST_F(ContiguousErrors, ReadIntoOtherShapes) {
  const auto error = [&](Index sequence, const TensorShape& k, const TensorShape& v) {
    auto keys = tensor(k), values = tensor(v);
    const auto before = keys.storage();
    const std::string text =
        error_without_change([&] { cache.read(sequence, keys.view(), values.view()); });
    EXPECT_TRUE(same_bits(keys.storage(), before));
    return text;
  };
  EXPECT_EQ(error(0, {1, 60, 2, 8}, {1, 60, 2, 5}),
            "KvCache::read: sequence 0 holds 70 tokens, the tensors 60");
  EXPECT_EQ(error(0, {1, 70, 2, 7}, {1, 70, 2, 5}),
            "KvCache::read: keys are [1, 70, 2, 7], expected [1, 70, 2, 8]");
  EXPECT_EQ(error(0, {1, 70, 2, 8}, {1, 69, 2, 5}),
            "KvCache::read: values are [1, 69, 2, 5], expected [1, 70, 2, 5]");
  EXPECT_EQ(error(7, {1, 70, 2, 8}, {1, 70, 2, 5}),
            "KvCache::read: sequence 7 is outside of a batch of 2");
}

}  // namespace
}  // namespace gqa::test
