// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What a model's author says about one attention layer. Most fields have the meaning, and the
// default, that Hugging Face's config.json gives them.
#pragma once

#include <algorithm>
#include <optional>

#include "gqa/core/heads.hpp"
#include "gqa/core/sizes.hpp"
#include "gqa/ops/rope_scaling.hpp"

namespace gqa {

/// RMSNorm over head_dim of each query and key head, before rotation, with weights q_norm and
/// k_norm that all heads share (Qwen 3, Gemma 3).
struct QkNorm {
  double eps = 1e-6;
};

struct MultiHeadAttentionConfig {
  Index hidden_size = 0;     ///< width of x and y
  Index num_heads = 0;       ///< query heads
  Index num_kv_heads = 0;    ///< divides num_heads; 0: num_heads, which is standard MHA; 1 is MQA
  Index head_dim = 0;        ///< of queries and keys; 0: hidden_size / num_heads
  Index value_dim = 0;       ///< of values; 0: head_dim
  Index kv_hidden_size = 0;  ///< width of the memory that cross-attention reads; 0: hidden_size
  bool qkv_bias = false;
  bool out_bias = false;
  std::optional<RopeConfig> rope = {};  ///< none: no positions but what the rules make of them
  Index rope_table_positions = 0;       ///< rows of cos and sin computed in advance, see RopeTable
  std::optional<QkNorm> qk_norm = {};
  std::optional<double> scale =
      {};  ///< of q·k; none: 1 / sqrt(head_dim). A Scale in the rules wins

  GQA_TAG Index query_width() const { return num_heads * head_dim; }
  GQA_TAG Index key_width() const { return num_kv_heads * head_dim; }
  GQA_TAG Index value_width() const { return num_kv_heads * value_dim; }
  /// What o_proj reads.
  GQA_TAG Index attention_width() const { return num_heads * value_dim; }
  /// Channels of a query or key that are rotated, 0 without rope.
  GQA_TAG Index rotary_dim() const {
    if (!rope) return 0;
    return rope->rotary_dim == 0 ? head_dim : rope->rotary_dim;
  }
};

/// The same with every 0 that stands for a default replaced. Throws std::invalid_argument for
/// numbers that contradict each other, std::length_error for weights that no memory could have.
GQA_TAG inline MultiHeadAttentionConfig resolved(MultiHeadAttentionConfig config) {
  require(config.hidden_size > 0, "hidden_size must be positive, is ", config.hidden_size);
  require(config.num_heads > 0, "num_heads must be positive, is ", config.num_heads);
  if (config.num_kv_heads == 0) config.num_kv_heads = config.num_heads;
  if (config.head_dim == 0) {
    require(config.hidden_size % config.num_heads == 0, "num_heads ", config.num_heads,
            " does not divide hidden_size ", config.hidden_size, ": head_dim must be given");
    config.head_dim = config.hidden_size / config.num_heads;
  }
  if (config.value_dim == 0) config.value_dim = config.head_dim;
  if (config.kv_hidden_size == 0) config.kv_hidden_size = config.hidden_size;
  require(config.kv_hidden_size > 0, "kv_hidden_size must be positive, is ", config.kv_hidden_size);
  require(config.rope_table_positions >= 0, "rope_table_positions must not be negative, is ",
          config.rope_table_positions);
  Heads<>(config.num_heads, config.num_kv_heads, config.head_dim, config.value_dim);  // checks
  // All matrices and biases together are less than eight of the largest one.
  memory_bytes("MultiHeadAttention",
               {8, config.num_heads, (std::max)(config.head_dim, config.value_dim),
                (std::max)(config.hidden_size, config.kv_hidden_size), Index{sizeof(double)}});
  if (config.rope) config.rope->rotary_dim = config.rotary_dim();
  return config;
}

}  // namespace gqa
