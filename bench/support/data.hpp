// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What benchmarks attend over: model shapes and random numbers that look like activations.
#pragma once

#include <algorithm>
#include <cstdint>
#include <gqa/gqa.hpp>
#include <string_view>

namespace gqa::bench {

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // [batch, tokens, heads, dim]

/// The attention layer of a model. value_dim is head_dim in all of them.
struct ModelShape {
  std::string_view name;
  Index num_heads;
  Index num_kv_heads;
  Index head_dim;
};

inline constexpr ModelShape models[] = {
    {"llama2_7b", 32, 32, 128},  // MHA
    {"llama3_8b", 32, 8, 128},   // group 4
    {"mqa_8b", 32, 1, 128},      // llama3_8b with a single KV head
    {"qwen2_7b", 28, 4, 128},    // group 7
    {"gemma2_9b", 16, 8, 256},   // group 2, wide heads
    {"falcon_7b", 71, 1, 64},    // MQA, group 71
};

/// Numbers in [-sqrt(3), sqrt(3)), mean 0 and variance 1, so that scores have variance 1 as well.
/// The same numbers on every machine (SplitMix64).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  float operator()() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    const auto bits = static_cast<std::int32_t>((z ^ (z >> 31)) >> 32);
    return static_cast<float>(bits) * (1.7320508f / 2147483648.0f);
  }
  void fill(Tensor& tensor) {
    std::generate_n(tensor.data(), tensor.size(), [this] { return (*this)(); });
  }

 private:
  std::uint64_t state_;
};

/// Appends `tokens` random keys and values, as [batch, n, num_kv_heads, head_dim] tensors k and v
/// of a few hundred tokens, by calls of append(k, v).
template <typename Append>
void append_random(Random& random, Index batch, Index tokens, Index num_kv_heads, Index head_dim,
                   Append append) {
  constexpr Index chunk = 256;
  for (Index begin = 0; begin < tokens; begin += chunk) {
    Tensor k(batch, std::min(chunk, tokens - begin), num_kv_heads, head_dim);
    Tensor v(k.dimensions());
    random.fill(k);
    random.fill(v);
    append(k, v);
  }
}

/// Multiplications and additions that `q_len` causal queries at the end of `kv_len` keys ask for:
/// two products of head_dim each over the keys that a query sees.
inline double causal_flops(Index num_heads, Index head_dim, Index q_len, Index kv_len) {
  const double first = static_cast<double>(kv_len - q_len + 1), last = static_cast<double>(kv_len);
  const double visible = static_cast<double>(q_len) * (first + last) / 2;
  return 4.0 * static_cast<double>(num_heads * head_dim) * visible;
}

}  // namespace gqa::bench
