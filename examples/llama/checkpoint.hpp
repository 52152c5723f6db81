// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Reading checkpoints of llama2.c (https://github.com/karpathy/llama2.c, "version 0"): seven int32,
// then float32 weights in a fixed order, then two rotary tables that nobody needs. The format has
// no magic number and no checksum: the size of the file, which the seven numbers determine, is what
// tells a checkpoint from anything else.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "support/binary_file.hpp"

namespace gqa::examples {

/// The shape of a llama model.
struct LlamaConfig {
  std::int64_t hidden_size = 0;        ///< width of the residual stream
  std::int64_t intermediate_size = 0;  ///< width inside of the feed-forward layers
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t vocab_size = 0;
  std::int64_t max_len = 0;  ///< tokens that the model was trained to look back on
  float rms_norm_eps = 1e-5F;
  double rope_theta = 10000.0;

  std::int64_t head_dim() const { return hidden_size / num_heads; }
  std::int64_t kv_size() const { return num_kv_heads * head_dim(); }
};

/// A llama2.c checkpoint in memory. Weights are row-major [out, in]; spans point into the file's
/// bytes, which the object owns.
class Checkpoint {
 public:
  struct Layer {
    std::span<const float> attention_norm;     ///< [hidden_size]
    std::span<const float> wq;                 ///< [hidden_size, hidden_size]
    std::span<const float> wk;                 ///< [kv_size, hidden_size]
    std::span<const float> wv;                 ///< [kv_size, hidden_size]
    std::span<const float> wo;                 ///< [hidden_size, hidden_size]
    std::span<const float> feed_forward_norm;  ///< [hidden_size]
    std::span<const float> w1;                 ///< [intermediate_size, hidden_size], the gate
    std::span<const float> w2;                 ///< [hidden_size, intermediate_size], down
    std::span<const float> w3;                 ///< [intermediate_size, hidden_size], up
  };

  /// Throws std::runtime_error, naming the file and the byte, unless the header is sound and the
  /// file has exactly the size that it asks for.
  explicit Checkpoint(const std::filesystem::path& path) {
    BinaryFile file(path);
    if (file.size() < header_bytes) {
      fail_at(file.name(), 0,
              "a llama2.c checkpoint begins with 28 bytes, this file has " +
                  std::to_string(file.size()));
    }
    std::array<std::byte, header_bytes> header;
    file.read(0, header.data(), header.size());
    read_header(ByteCursor(header, file.name()));
    const std::uint64_t expected = header_bytes + sizeof(float) * num_weights(file.name());
    if (file.size() != expected) {
      fail_at(file.name(), file.size() < expected ? file.size() : expected,
              "the header asks for " + std::to_string(expected) + " bytes in all, the file has " +
                  std::to_string(file.size()));
    }
    weights_ = file.read_rest(header_bytes);
    assign_weights();
  }

  const LlamaConfig& config() const { return config_; }
  /// True if the classifier is the token embedding.
  bool shares_classifier() const { return shares_classifier_; }

  std::span<const float> token_embedding() const { return token_embedding_; }  ///< [vocab, hidden]
  const std::vector<Layer>& layers() const { return layers_; }
  std::span<const float> final_norm() const { return final_norm_; }  ///< [hidden_size]
  std::span<const float> classifier() const { return classifier_; }  ///< [vocab, hidden]

 private:
  static constexpr std::uint64_t header_bytes = 7 * sizeof(std::int32_t);

  void read_header(ByteCursor cursor) {
    const auto positive = [&](const char* name) {
      const auto value = cursor.take<std::int32_t>(name);
      if (value == ak42 && cursor.byte() == 4) {
        cursor.fail("a newer llama2.c export (magic \"ak42\"); export it as version 0", 4);
      }
      if (value <= 0) {
        cursor.fail(std::string(name) + " is " + std::to_string(value) + ", must be positive", 4);
      }
      return std::int64_t(value);
    };
    config_.hidden_size = positive("dim");
    config_.intermediate_size = positive("hidden_dim");
    config_.num_layers = positive("n_layers");
    config_.num_heads = positive("n_heads");
    if (config_.hidden_size % config_.num_heads != 0) {
      cursor.fail("n_heads " + std::to_string(config_.num_heads) + " does not divide dim " +
                      std::to_string(config_.hidden_size),
                  4);
    }
    if (config_.head_dim() % 2 != 0) {
      cursor.fail("head_dim " + std::to_string(config_.head_dim()) +
                      " is odd: rotary embedding turns pairs",
                  4);
    }
    config_.num_kv_heads = positive("n_kv_heads");
    if (config_.num_heads % config_.num_kv_heads != 0) {
      cursor.fail("n_kv_heads " + std::to_string(config_.num_kv_heads) +
                      " does not divide n_heads " + std::to_string(config_.num_heads),
                  4);
    }
    // A negative vocabulary size is how llama2.c says that the classifier has its own weights.
    const std::int64_t vocab_size = cursor.take<std::int32_t>("vocab_size");
    if (vocab_size == 0) cursor.fail("vocab_size is 0", 4);
    shares_classifier_ = vocab_size > 0;
    config_.vocab_size = shares_classifier_ ? vocab_size : -vocab_size;
    config_.max_len = positive("seq_len");
  }

  /// A stretch of the file: one matrix, or one for each layer behind one another.
  struct Block {
    std::span<const float> Checkpoint::*single;
    std::span<const float> Layer::*per_layer;  ///< null if single isn't
    std::int64_t rows;
    std::int64_t columns;
  };

  /// In the order of the file.
  std::vector<Block> blocks() const {
    const std::int64_t hidden = config_.hidden_size, inner = config_.intermediate_size;
    const std::int64_t kv_size = config_.kv_size(), pairs = config_.head_dim() / 2;
    std::vector<Block> order = {
        {&Checkpoint::token_embedding_, nullptr, config_.vocab_size, hidden},
        {nullptr, &Layer::attention_norm, 1, hidden},
        {nullptr, &Layer::wq, hidden, hidden},
        {nullptr, &Layer::wk, kv_size, hidden},
        {nullptr, &Layer::wv, kv_size, hidden},
        {nullptr, &Layer::wo, hidden, hidden},
        {nullptr, &Layer::feed_forward_norm, 1, hidden},
        {nullptr, &Layer::w1, inner, hidden},
        {nullptr, &Layer::w2, hidden, inner},
        {nullptr, &Layer::w3, inner, hidden},
        {&Checkpoint::final_norm_, nullptr, 1, hidden},
        {&Checkpoint::cosines_, nullptr, config_.max_len, pairs},
        {&Checkpoint::sines_, nullptr, config_.max_len, pairs},
    };
    if (!shares_classifier_) {
      order.push_back({&Checkpoint::classifier_, nullptr, config_.vocab_size, hidden});
    }
    return order;
  }

  /// How many floats follow the header. Seven arbitrary numbers easily ask for more than 64 bits
  /// count: that throws.
  std::uint64_t num_weights(const std::string& file) const {
    constexpr auto limit = std::uint64_t(std::numeric_limits<std::int64_t>::max()) / sizeof(float);
    std::uint64_t sum = 0;
    for (const Block& block : blocks()) {
      const auto size = std::uint64_t(block.rows * block.columns);  // both are below 2^31
      const auto times = block.single ? 1 : std::uint64_t(config_.num_layers);
      if (size > (limit - sum) / times) {
        fail_at(file, 0, "the header's sizes ask for more bytes than 63 bits count");
      }
      sum += size * times;
    }
    return sum;
  }

  void assign_weights() {
    const auto* next = reinterpret_cast<const float*>(weights_.data());
    const auto take = [&next](const Block& block) {
      const auto size = static_cast<std::size_t>(block.rows * block.columns);
      return std::span<const float>(std::exchange(next, next + size), size);
    };
    layers_.resize(static_cast<std::size_t>(config_.num_layers));
    for (const Block& block : blocks()) {
      if (block.single) {
        this->*block.single = take(block);
      } else {
        for (Layer& layer : layers_) layer.*block.per_layer = take(block);
      }
    }
    if (shares_classifier_) classifier_ = token_embedding_;
  }

  static constexpr std::int32_t ak42 = 0x616b3432;  // begins the later versions

  LlamaConfig config_;
  bool shares_classifier_ = true;
  AlignedBytes weights_;
  std::span<const float> token_embedding_;
  std::vector<Layer> layers_;
  std::span<const float> final_norm_;
  std::span<const float> classifier_;
  std::span<const float> cosines_;  // [max_len, head_dim / 2], as are the sines: for theta 10000;
  std::span<const float> sines_;    // read for the layout's sake, computed anew by the model
};

}  // namespace gqa::examples
