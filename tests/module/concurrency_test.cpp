// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// One layer serves several threads at once, and one pass may use several threads.
#include <gtest/gtest.h>

#include <thread>

#include "layer.hpp"

namespace gqa::test {
namespace {

TEST(ModuleConcurrency, OneLayerServesThreadsWithCachesOfTheirOwn) {
  const auto layer = random_layer<float>({.hidden_size = 48,
                                          .num_heads = 6,
                                          .num_kv_heads = 2,
                                          .rope = RopeConfig{},
                                          .rope_table_positions = 4,
                                          .qk_norm = QkNorm{}});
  const auto x = random_hidden<float>(1, 9, 48);
  Hidden<float> expected(1, 9, 48);
  layer.forward(x, expected);

  std::vector<double> largest(4, -1);
  std::vector<std::thread> threads;
  for (double& difference : largest) {
    threads.emplace_back([&] {
      KvCache<float> cache({.capacity = 9, .heads = layer.heads()});
      Workspace workspace;
      difference = 0;
      for (Index t = 0; t < 9; ++t) {
        const Hidden<float> token =
            x.slice(Eigen::array<Index, 3>{0, t, 0}, Eigen::array<Index, 3>{1, 1, 48});
        Hidden<float> y(1, 1, 48);
        layer.forward(token, y, &cache, &workspace);
        for (Index c = 0; c < 48; ++c) {
          difference = std::max<double>(difference, std::abs(y(0, 0, c) - expected(0, t, c)));
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const double difference : largest) {
    EXPECT_GE(difference, 0);
    EXPECT_LE(difference, 5e-6);
  }
}

TEST(ModuleConcurrency, OnePassOnSeveralThreadsGivesTheSameBits) {
  const auto layer = random_layer<float>({.hidden_size = 160,
                                          .num_heads = 10,
                                          .num_kv_heads = 2,
                                          .qkv_bias = true,
                                          .out_bias = true,
                                          .rope = RopeConfig{}});
  for (const Index tokens : {1, 7, 150}) {
    const auto x = random_hidden<float>(2, tokens, 160);
    Hidden<float> serial(2, tokens, 160), parallel(2, tokens, 160);
    layer.forward(x, serial);
    for (const int n : {2, 3, 8}) {
      Eigen::ThreadPool threads(n - 1);
      EigenPool pool(threads);
      layer.forward(x, parallel, nullptr, nullptr, Causal{}, pool);
      for (Index i = 0; i < x.size(); ++i) ASSERT_EQ(serial.data()[i], parallel.data()[i]);
    }
  }
}

}  // namespace
}  // namespace gqa::test
