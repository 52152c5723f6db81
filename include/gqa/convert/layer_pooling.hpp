// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Pooling a whole layer: wk, wv and their biases get fewer heads (head_pooling.hpp), everything
// else is copied.
#pragma once

#include <cstdint>

#include "gqa/convert/head_pooling.hpp"
#include "gqa/module/multi_head_attention.hpp"

namespace gqa {

enum class HeadPoolingMethod { mean, first, random };

/// What pooling took from the keys and the values: head_pooling_error() of each.
struct LayerPoolingError {
  double keys = 0;
  double values = 0;
};

inline namespace GQA_ISA {

/// The layer with num_kv_heads KV heads, which divide those that it has: neighbours become one.
/// `seed` is for random heads; give each layer its own. Throws std::invalid_argument.
template <typename T>
MultiHeadAttention<T> pool_layer(const MultiHeadAttention<T>& layer, Index num_kv_heads,
                                 HeadPoolingMethod method = HeadPoolingMethod::mean,
                                 std::uint64_t seed = 1, LayerPoolingError* error = nullptr) {
  MultiHeadAttentionConfig config = layer.config();
  const HeadPooling pooling{.from = config.num_kv_heads, .to = num_kv_heads};
  detail::check_pooling(pooling);
  config.num_kv_heads = num_kv_heads;
  MultiHeadAttention<T> result(config);
  const auto pool = [&](const auto& weight, std::uint64_t salt) {
    return method == HeadPoolingMethod::mean ? mean_pool_heads(weight, pooling)
           : method == HeadPoolingMethod::first
               ? first_pool_heads(weight, pooling)
               : random_pool_heads(weight, pooling, 4 * seed + salt);
  };
  const AttentionWeights<T>& from = layer.weights();
  AttentionWeights<T>& to = result.weights();
  for (const auto weight : {AttentionWeight::wq, AttentionWeight::wo}) {
    to.matrix(weight) = from.matrix(weight);
  }
  to.matrix(AttentionWeight::wk) = pool(from.matrix(AttentionWeight::wk), 0);
  to.matrix(AttentionWeight::wv) = pool(from.matrix(AttentionWeight::wv), 1);
  if (from.has(AttentionWeight::bk)) {
    to.vector(AttentionWeight::bk) = pool(from.vector(AttentionWeight::bk), 2);
    to.vector(AttentionWeight::bv) = pool(from.vector(AttentionWeight::bv), 3);
  }
  for (const auto weight : {AttentionWeight::bq, AttentionWeight::bo, AttentionWeight::q_norm,
                            AttentionWeight::k_norm}) {
    to.vector(weight) = from.vector(weight);
  }
  if (error) {
    const auto lost = [&](AttentionWeight weight) {
      return head_pooling_error(from.matrix(weight), std::as_const(to).matrix(weight), pooling);
    };
    *error = {.keys = lost(AttentionWeight::wk), .values = lost(AttentionWeight::wv)};
  }
  return result;
}

}  // namespace GQA_ISA
}  // namespace gqa
