// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A Llama: what stands around the library's attention in a model, and no more. Read forward()
// first. Weights come from llama2.c checkpoints (whose rotary pairs are neighbours) or from Hugging
// Face safetensors (whose pairs are head_dim / 2 apart); the arithmetic is float.
#pragma once

#include <cstddef>
#include <cstdint>
#include <gqa/gqa.hpp>
#include <span>
#include <vector>

#include "llama/checkpoint.hpp"
#include "support/any_executor.hpp"

namespace gqa::examples {

class SafeTensors;

/// One sequence that a Llama reads or writes: its keys and values in all layers, and scratch
/// memory.
template <StorageType Storage>
class LlamaSession {
 public:
  /// Room for `capacity` tokens.
  LlamaSession(const LlamaConfig& config, Index capacity) {
    for (Index layer = 0; layer < config.num_layers; ++layer) {
      caches_.emplace_back(typename KvCache<Storage>::Options{
          .capacity = capacity,
          .heads = {config.num_heads, config.num_kv_heads, config.head_dim()}});
    }
  }

  KvCache<Storage>& cache(std::size_t layer) { return caches_[layer]; }
  Workspace& workspace() { return workspace_; }

  Index length() const { return caches_.front().length(0); }
  Index capacity() const { return caches_.front().capacity(); }
  /// Forgets the tokens from `length` on.
  void truncate(Index length) {
    for (auto& cache : caches_) cache.truncate_all(length);
  }
  /// What the caches of all layers take.
  std::size_t kv_bytes() const {
    std::size_t bytes = 0;
    for (const auto& cache : caches_) bytes += static_cast<std::size_t>(cache.bytes());
    return bytes;
  }

 private:
  std::vector<KvCache<Storage>> caches_;
  Workspace workspace_;
};

/// Behind which tokens the next one's logits are wanted. In a large vocabulary they are the most
/// expensive part of a short prompt.
enum class LogitsOf { every_token, last_token };

class Llama {
 public:
  using Token = std::int32_t;
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  using Attention = MultiHeadAttention<float>;

  /// x += attention(input(x)); feed_forward(x).
  struct Layer {
    Attention attention;                        // wq, wk, wv, wo
    std::vector<float> attention_norm = {};     // [hidden_size]
    std::vector<float> feed_forward_norm = {};  // [hidden_size]
    Matrix gate = {};                           // [intermediate_size, hidden_size]
    Matrix up = {};                             // [intermediate_size, hidden_size]
    Matrix down = {};                           // [hidden_size, intermediate_size]
    float rms_norm_eps = 1e-5F;

    /// What attention reads of the residual stream x, [tokens, hidden_size].
    Matrix input(const Matrix& x) const;
    /// x += down(silu(gate(h)) * up(h)), h = norm(x): SwiGLU.
    void feed_forward(Matrix& x) const;
  };

  explicit Llama(const Checkpoint& file) : Llama(file.weights()) {}
  explicit Llama(const CheckpointWeights& file);

  /// A LlamaForCausalLM of Hugging Face, whose config.json says `config`
  /// (read_hugging_face_config()). Throws std::runtime_error for a tensor that is missing or of
  /// another shape.
  Llama(const LlamaConfig& config, const SafeTensors& file);

  /// A model of random weights, which writes nonsense: for trying out what stands around a model
  /// where no checkpoint is at hand.
  Llama(const LlamaConfig& config, std::uint64_t seed);

  const LlamaConfig& config() const { return config_; }
  const std::vector<Layer>& layers() const { return layers_; }

  /// Replaces the attention of all layers, whose num_kv_heads may be another, but the same in all.
  /// Throws std::invalid_argument.
  void set_attention(std::vector<Attention> attention);

  /// The residual stream as it begins, [tokens, hidden_size]. Throws std::invalid_argument for a
  /// token outside of the vocabulary.
  Matrix embed(std::span<const Token> tokens) const;

  /// The model's first layers and its classifier: a rough guess at what all of them say.
  Llama first_layers(Index num_layers) &&;

  /// Continues the session's sequence by `tokens` and returns the logits after each of them,
  /// [tokens, vocab_size], or after the last one. Throws std::invalid_argument for a token outside
  /// of the vocabulary and std::length_error if the session is full; it is then left as it was.
  /// Defined for sessions of float, bfloat16, half, Int8 and Int4.
  template <StorageType Storage>
  Matrix forward(std::span<const Token> tokens, LlamaSession<Storage>& session,
                 LogitsOf which = LogitsOf::every_token, const AnyExecutor& executor = {}) const;

  /// Continues sequences[i] of a stack of caches by tokens[i], one token or many, all in one pass,
  /// and returns the logits after the last token of each, [requests, vocab_size]. Throws what the
  /// caches throw when they are full; they are then as they were. Defined for KvCache<float> and
  /// PagedKvCache<float>.
  template <typename Cache>
  Matrix forward(std::span<const std::vector<Token>> tokens, KvCacheStack<Cache>& stack,
                 std::span<const Index> sequences, Workspace& workspace,
                 const AnyExecutor& executor = {}) const;

  /// The same of a whole sequence, without a cache.
  Matrix forward(std::span<const Token> tokens) const;

 private:
  template <typename Attend>
  Matrix run(std::span<const Token> tokens, LogitsOf which, Attend attend) const;
  template <typename Attend>
  Matrix hidden_states(std::span<const Token> tokens, Attend attend) const;
  Matrix logits(const Matrix& x) const;
  std::size_t weight_bytes() const;
  Layer& add_layer(RopeStyle style);
  Index checked(std::span<const Token> tokens, Index i) const;

  LlamaConfig config_;
  Matrix embedding_;  // [vocab_size, hidden_size]
  std::vector<Layer> layers_;
  std::vector<float> final_norm_;  // [hidden_size]
  Matrix classifier_;              // [vocab_size, hidden_size]; empty if it is the embedding
};

}  // namespace gqa::examples
