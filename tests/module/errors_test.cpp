// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What the module refuses: with both numbers, and before anything is changed.
#include <gtest/gtest.h>

#include "layer.hpp"

namespace gqa::test {
namespace {

template <typename Error = std::invalid_argument, typename F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no such error";
}

std::string config_error(const MultiHeadAttentionConfig& config) {
  return error_of([&] { MultiHeadAttention<float> layer(config); });
}

TEST(ModuleConfig, FillsInItsDefaults) {
  const MultiHeadAttention<float> layer(
      {.hidden_size = 2048, .num_heads = 32, .num_kv_heads = 8, .rope = RopeConfig{}});
  EXPECT_EQ(layer.config().head_dim, 64);
  EXPECT_EQ(layer.config().value_dim, 64);
  EXPECT_EQ(layer.config().kv_hidden_size, 2048);
  EXPECT_EQ(layer.config().rope->rotary_dim, 64);
  EXPECT_EQ(layer.heads().group(), 4);
  EXPECT_EQ(MultiHeadAttention<float>({.hidden_size = 8, .num_heads = 4}).config().num_kv_heads, 4);
}

TEST(ModuleConfig, NamesTheNumbersThatDisagree) {
  EXPECT_EQ(config_error({}), "hidden_size must be positive, is 0");
  EXPECT_EQ(config_error({.hidden_size = 8}), "num_heads must be positive, is 0");
  EXPECT_EQ(config_error({.hidden_size = 8, .num_heads = -2}), "num_heads must be positive, is -2");
  EXPECT_EQ(config_error({.hidden_size = 64, .num_heads = 32, .num_kv_heads = 6}),
            "num_kv_heads 6 does not divide num_heads 32");
  EXPECT_EQ(config_error({.hidden_size = 100, .num_heads = 32}),
            "num_heads 32 does not divide hidden_size 100: head_dim must be given");
  EXPECT_EQ(config_error({.hidden_size = 8, .num_heads = 2, .num_kv_heads = -1}),
            "num_kv_heads must be positive, is -1");
  EXPECT_EQ(config_error({.hidden_size = 8, .num_heads = 2, .head_dim = -4}),
            "head_dim must be positive, is -4");
  EXPECT_EQ(config_error({.hidden_size = 8, .num_heads = 2, .value_dim = -4}),
            "value_dim must be positive, is -4");
  EXPECT_EQ(config_error({.hidden_size = 8, .num_heads = 2, .kv_hidden_size = -4}),
            "kv_hidden_size must be positive, is -4");
  EXPECT_EQ(config_error({.hidden_size = 8, .num_heads = 2, .rope_table_positions = -4}),
            "rope_table_positions must not be negative, is -4");
  EXPECT_EQ(config_error({.hidden_size = 8, .num_heads = 2, .rope = RopeConfig{.rotary_dim = 6}}),
            "rotary_dim must be even, positive and at most head_dim 4, is 6");
  EXPECT_EQ(config_error({.hidden_size = 6, .num_heads = 2, .rope = RopeConfig{}}),
            "rotary_dim must be even, positive and at most head_dim 3, is 3");
}

class ModuleErrors : public ::testing::Test {
 protected:
  MultiHeadAttention<float> layer =
      random_layer<float>({.hidden_size = 16, .num_heads = 4, .num_kv_heads = 2});
  Hidden<float> x = random_hidden<float>(2, 3, 16);
  Hidden<float> y = random_hidden<float>(2, 3, 16, 77);
  Hidden<float> y_before = y;
  KvCache<float> cache{{.batch = 2, .capacity = 4, .heads = layer.heads()}};

  void SetUp() override { layer.forward(random_hidden<float>(2, 2, 16), scratch, &cache); }
  void TearDown() override {  // nothing was changed
    for (Index i = 0; i < y.size(); ++i) EXPECT_EQ(y.data()[i], y_before.data()[i]);
    EXPECT_EQ(cache.length(0), 2);
    EXPECT_EQ(cache.length(1), 2);
  }

  Hidden<float> scratch{2, 2, 16};
};

TEST_F(ModuleErrors, ShapesOfXAndY) {
  const auto wide = random_hidden<float>(2, 3, 17);
  EXPECT_EQ(error_of([&] { layer.forward(wide, y, &cache); }),
            "forward: x is [2, 3, 17], hidden_size is 16");
  Hidden<float> y_short(2, 2, 16);
  EXPECT_EQ(error_of([&] { layer.forward(x, y_short, &cache); }),
            "forward: x is [2, 3, 16], y is [2, 2, 16]");
  Matrix<float> one_row(1, 15);
  EXPECT_EQ(error_of([&] { layer.cross(one_row, one_row, cache); }),
            "cross: x is [1, 1, 15], hidden_size is 16");
  EXPECT_EQ(error_of([&] { layer.project_memory(wide, cache); }),
            "project_memory: x is [2, 3, 17], kv_hidden_size is 16");
  const Eigen::Tensor<float, 4, Eigen::RowMajor> rank_4(2, 3, 2, 16);
  EXPECT_EQ(error_of([&] { layer.forward(rank_4, y); }),
            "forward: x is [2, 3, 2, 16], hidden_size is 16");
}

TEST_F(ModuleErrors, ACacheOfAnotherLayer) {
  const auto refuses = [&](const Heads<>& heads, Index batch) {
    KvCache<float> other({.batch = batch, .capacity = 9, .heads = heads});
    const std::string error = error_of([&] { layer.forward(x, y, &other); });
    EXPECT_EQ(other.length(0), 0);
    return error;
  };
  EXPECT_EQ(refuses({4, 2, 4}, 3), "forward: the cache's batch is 3, that of x 2");
  EXPECT_EQ(refuses({4, 4, 4}, 2), "forward: the cache's num_kv_heads is 4, the layer's 2");
  EXPECT_EQ(refuses({4, 2, 8, 4}, 2), "forward: the cache's head_dim is 8, the layer's 4");
  EXPECT_EQ(refuses({4, 2, 4, 8}, 2), "forward: the cache's value_dim is 8, the layer's 4");
}

TEST_F(ModuleErrors, AFullCache) {
  EXPECT_NE(error_of<std::length_error>([&] { layer.forward(x, y, &cache); }), "no such error");
  EXPECT_NE(error_of<std::length_error>([&] { layer.project_memory(x, cache); }), "no such error");
}

TEST_F(ModuleErrors, RulesThatDontFitTheCall) {
  const Alibi three{{0.5f, 0.25f, 0.125f}};
  const auto two = random_hidden<float>(2, 2, 16);
  EXPECT_EQ(error_of([&] { layer.forward(two, y, &cache, nullptr, Causal{} & three); }),
            "forward: x is [2, 2, 16], y is [2, 3, 16]");
  EXPECT_EQ(error_of([&] { layer.forward(two, scratch, &cache, nullptr, Causal{} & three); }),
            "Alibi has 3 slopes for num_heads 4");
  EXPECT_EQ(error_of([&] { layer.forward(x, y, nullptr, nullptr, Causal{} & three); }),
            "Alibi has 3 slopes for num_heads 4");
}

TEST_F(ModuleErrors, LengthsThatDontFitTheBatch) {
  const std::vector<Index> one{1}, long_one{1, 4}, negative{-1, 1};
  const auto refuses = [&](const std::vector<Index>& lengths) {
    return error_of([&] { layer.forward(x, y, &cache, nullptr, Causal{}, Serial{}, lengths); });
  };
  EXPECT_EQ(refuses(one), "forward: 1 lengths for a batch of 2");
  EXPECT_EQ(refuses(long_one), "forward: a length of 4 is outside of [0, 3]");
  EXPECT_EQ(refuses(negative), "forward: a length of -1 is outside of [0, 3]");
}

TEST_F(ModuleErrors, SelfAttentionOfAnotherWidthAndCrossAttentionWithRope) {
  const MultiHeadAttention<float> cross_only(
      {.hidden_size = 16, .num_heads = 4, .num_kv_heads = 2, .kv_hidden_size = 20});
  EXPECT_EQ(error_of([&] { cross_only.forward(x, y, &cache); }),
            "forward: self-attention reads keys and values of kv_hidden_size 20 from x, whose "
            "hidden_size is 16");
  const MultiHeadAttention<float> with_rope(
      {.hidden_size = 16, .num_heads = 4, .num_kv_heads = 2, .rope = RopeConfig{}});
  EXPECT_NE(error_of([&] { with_rope.cross(x, y, cache); }).find("has no rope"), std::string::npos);
  EXPECT_NE(error_of([&] { with_rope.project_memory(x, cache); }).find("has no rope"),
            std::string::npos);
}

/// A cache that appends as many tokens to each sequence.
class EvenCache {
 public:
  using Storage = float;
  static constexpr KvLayout layout = KvLayout::strips;

  explicit EvenCache(const KvCache<float>::Options& options) : cache_(options) {}
  Index batch() const { return cache_.batch(); }
  Index num_kv_heads() const { return cache_.num_kv_heads(); }
  Index head_dim() const { return cache_.head_dim(); }
  Index value_dim() const { return cache_.value_dim(); }
  Index length(Index b) const { return cache_.length(b); }
  template <typename F>
  void for_each_run(Index b, Index kv_head, Index begin, Index end, F&& fn) const {
    cache_.for_each_run(b, kv_head, begin, end, fn);
  }
  void append(TensorView<const float> k, TensorView<const float> v) { cache_.append(k, v); }

 private:
  KvCache<float> cache_;
};

TEST_F(ModuleErrors, LengthsNeedACacheThatTakesThem) {
  EvenCache even({.batch = 2, .capacity = 9, .heads = layer.heads()});
  const std::vector<Index> lengths{1, 3};
  EXPECT_EQ(error_of([&] { layer.forward(x, y, &even, nullptr, Causal{}, Serial{}, lengths); }),
            "this cache has no append(k, v, counts), which the 2 different lengths need");
  EXPECT_EQ(even.length(0), 0);
  Hidden<float> out(2, 3, 16), expected(2, 3, 16);
  layer.forward(x, out, &even);  // without them, it serves
  EXPECT_EQ(even.length(1), 3);
  layer.forward(x, expected);
  for (Index i = 0; i < out.size(); ++i) EXPECT_NEAR(out.data()[i], expected.data()[i], 5e-6);
}

/// A mask whose second check fails, as a scratch allocation could: the first one is the module's,
/// the second attend()'s, when keys and values are in the cache already. (volatile: at -O1, GCC 12
/// drops the reset of the counter between two passes, unless -fno-ipa-modref.)
struct FailsTheSecondCheck : NoMask {
  volatile int* checks;
  void check(const AttentionShape&) const {
    *checks = *checks + 1;
    if (*checks == 2) throw std::bad_alloc();
  }
};

TEST_F(ModuleErrors, AFailureBehindTheAppendTakesItBack) {
  volatile int checks = 0;
  const auto two = random_hidden<float>(2, 2, 16);
  EXPECT_THROW(layer.forward(two, scratch, &cache, nullptr, FailsTheSecondCheck{{}, &checks}),
               std::bad_alloc);
  EXPECT_EQ(checks, 2);
  checks = 0;
  const std::vector<Index> lengths{0, 2};
  EXPECT_THROW(layer.forward(two, scratch, &cache, nullptr, FailsTheSecondCheck{{}, &checks},
                             Serial{}, lengths),
               std::bad_alloc);
  EXPECT_EQ(checks, 2);
}

TEST(ModuleConfig, OfMoreWeightsThanMemoryHasIsRefused) {
  constexpr Index most = std::numeric_limits<Index>::max(), half_of_bits = Index{1} << 32;
  const auto refusal = [](const MultiHeadAttentionConfig& config) {
    return error_of<std::length_error>([&] { MultiHeadAttention<float> layer(config); });
  };
  // A width of 0 in 64 bits.
  EXPECT_EQ(refusal({.hidden_size = 16, .num_heads = half_of_bits, .head_dim = half_of_bits}),
            "MultiHeadAttention: 8 x 4294967296 x 4294967296 x 16 x 8 bytes are more than 63 bits "
            "count");
  const std::string none = "no such error";
  EXPECT_NE(refusal({.hidden_size = most, .num_heads = 1, .head_dim = 2}), none);
  EXPECT_NE(refusal({.hidden_size = 4, .num_heads = 2, .kv_hidden_size = most}), none);
  EXPECT_NE(refusal({.hidden_size = 4, .num_heads = 2, .value_dim = most}), none);
  EXPECT_NE(refusal({.hidden_size = 4, .num_heads = most, .head_dim = 1}), none);
  EXPECT_EQ(refusal({.hidden_size = 4,
                     .num_heads = 2,
                     .rope = RopeConfig{},
                     .rope_table_positions = Index{1} << 62}),
            "RopeTable: 4611686018427387904 x 1 x 4 bytes are more than 63 bits count");
}

}  // namespace
}  // namespace gqa::test
