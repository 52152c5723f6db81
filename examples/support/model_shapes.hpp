// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The shapes of well-known models, from their public config.json, and the number of their weights
// with any number of KV heads: with their own it is the number that is published.
#pragma once

#include <algorithm>
#include <gqa/cache/kv_memory.hpp>
#include <string_view>

namespace gqa::examples {

struct ModelShape {
  std::string_view name;
  Index num_layers = 0;
  Index num_heads = 0;
  Index num_kv_heads = 0;
  Index head_dim = 0;
  Index hidden_size = 0;
  Index intermediate_size = 0;
  Index vocab_size = 0;
  Index window = 0;           ///< sliding window of the windowed layers
  Index windowed_layers = 0;  ///< of num_layers
  bool gated = true;          ///< three matrices in a feed-forward layer, not two
  bool tied = false;          ///< the classifier is the embedding
  bool qkv_bias = false;
  Index norms = 2;       ///< vectors of hidden_size in a layer
  Index final_norm = 1;  ///< after all layers; 2 where it has a bias
  /// An encoder of as many layers before the decoder, which reads its output by cross-attention.
  /// The encoder's heads don't share keys and values (Ainslie et al. 2023, section 2.2).
  bool has_encoder = false;

  /// Numbers in all weights if `kv_heads` KV heads were shared by the query heads.
  Index parameters(Index kv_heads) const {
    const auto attention = [this](Index shared) {
      const Index bias = qkv_bias ? (num_heads + 2 * shared) * head_dim : 0;
      return 2 * hidden_size * head_dim * (num_heads + shared) + bias;  // wq, wo; wk, wv
    };
    const Index feed_forward = (gated ? 3 : 2) * hidden_size * intermediate_size;
    Index total = num_layers * (attention(kv_heads) + feed_forward + norms * hidden_size);
    total += (tied ? 1 : 2) * vocab_size * hidden_size + final_norm * hidden_size;
    if (has_encoder) {
      constexpr Index relative_positions = 32;
      total += num_layers * (attention(kv_heads) + hidden_size);  // cross-attention and its norm
      total += num_layers * (attention(num_heads) + feed_forward + norms * hidden_size);
      total += hidden_size + 2 * relative_positions * num_heads;
    }
    return total;
  }

  /// Bytes of keys and values of `batch` sequences of `context` tokens. A windowed layer keeps the
  /// window; cross-attention has as many tokens as the decoder itself. In double, as what is asked
  /// for may be more than 63 bits count.
  double kv_bytes(Index kv_heads, Dtype dtype, Index context, Index batch) const {
    const auto of_layers = [&](Index layers, Index tokens) {
      return plan_kv_memory({.num_layers = layers,
                             .heads = {num_heads, kv_heads, head_dim},
                             .dtype = dtype,
                             .context = tokens})
          .gqa.bytes;
    };
    const Index whole = num_layers - windowed_layers;
    return static_cast<double>(batch) *
           static_cast<double>(of_layers(has_encoder ? 2 * whole : whole, context) +
                               of_layers(windowed_layers, std::min(context, window)));
  }
};

inline constexpr ModelShape model_shapes[] = {
    {.name = "Llama-2-7B",
     .num_layers = 32,
     .num_heads = 32,
     .num_kv_heads = 32,
     .head_dim = 128,
     .hidden_size = 4096,
     .intermediate_size = 11008,
     .vocab_size = 32000},
    {.name = "Llama-2-70B",
     .num_layers = 80,
     .num_heads = 64,
     .num_kv_heads = 8,
     .head_dim = 128,
     .hidden_size = 8192,
     .intermediate_size = 28672,
     .vocab_size = 32000},
    {.name = "Llama-3-8B",
     .num_layers = 32,
     .num_heads = 32,
     .num_kv_heads = 8,
     .head_dim = 128,
     .hidden_size = 4096,
     .intermediate_size = 14336,
     .vocab_size = 128256},
    {.name = "Llama-3-70B",
     .num_layers = 80,
     .num_heads = 64,
     .num_kv_heads = 8,
     .head_dim = 128,
     .hidden_size = 8192,
     .intermediate_size = 28672,
     .vocab_size = 128256},
    {.name = "Mistral-7B",  // v0.1, the one with a window
     .num_layers = 32,
     .num_heads = 32,
     .num_kv_heads = 8,
     .head_dim = 128,
     .hidden_size = 4096,
     .intermediate_size = 14336,
     .vocab_size = 32000,
     .window = 4096,
     .windowed_layers = 32},
    {.name = "Falcon-7B",
     .num_layers = 32,
     .num_heads = 71,
     .num_kv_heads = 1,
     .head_dim = 64,
     .hidden_size = 4544,
     .intermediate_size = 18176,
     .vocab_size = 65024,
     .gated = false,
     .tied = true,
     .final_norm = 2},
    {.name = "Qwen2.5-7B",
     .num_layers = 28,
     .num_heads = 28,
     .num_kv_heads = 4,
     .head_dim = 128,
     .hidden_size = 3584,
     .intermediate_size = 18944,
     .vocab_size = 152064,
     .qkv_bias = true},
    {.name = "Gemma-2-9B",
     .num_layers = 42,
     .num_heads = 16,
     .num_kv_heads = 8,
     .head_dim = 256,
     .hidden_size = 3584,
     .intermediate_size = 14336,
     .vocab_size = 256000,
     .window = 4096,
     .windowed_layers = 21,
     .tied = true,
     .norms = 4},
    {.name = "T5-XXL",  // v1.1; the paper on GQA gave it 8 and 1 KV heads
     .num_layers = 24,
     .num_heads = 64,
     .num_kv_heads = 64,
     .head_dim = 64,
     .hidden_size = 4096,
     .intermediate_size = 10240,
     .vocab_size = 32128,
     .has_encoder = true},
};

}  // namespace gqa::examples
