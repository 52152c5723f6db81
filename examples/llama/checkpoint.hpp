// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Reading and writing checkpoints of llama2.c (https://github.com/karpathy/llama2.c, "version 0"):
// seven int32, then float32 weights in a fixed order, then two rotary tables that nobody needs. The
// format has no magic number and no checksum: the size of the file, which the seven numbers
// determine, is what tells a checkpoint from anything else.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <gqa/ops/rope_scaling.hpp>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/binary_file.hpp"
#include "support/file_writer.hpp"

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
  std::int64_t rotary_dim = 0;  ///< channels of a head that are rotated; 0: all
  RopeScaling rope_scaling = NoRopeScaling{};

  std::int64_t head_dim() const { return hidden_size / num_heads; }
  std::int64_t kv_size() const { return num_kv_heads * head_dim(); }
};

/// What a checkpoint holds, in memory that somebody else owns. Matrices are row-major [out, in].
struct CheckpointWeights {
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

  LlamaConfig config;
  std::span<const float> token_embedding;  ///< [vocab_size, hidden_size]
  std::vector<Layer> layers;
  std::span<const float> final_norm;  ///< [hidden_size]
  std::span<const float> classifier;  ///< [vocab_size, hidden_size]; the embedding, if that is it
  std::span<const float> cosines;  ///< [max_len, head_dim / 2], as are the sines: for theta 10000;
  std::span<const float> sines;    ///< there for the layout's sake, a model computes them anew

  bool shares_classifier() const { return classifier.data() == token_embedding.data(); }

  /// A stretch of the file: one matrix, or one for each layer, one after another.
  struct Block {
    std::span<const float> CheckpointWeights::*single;
    std::span<const float> Layer::*per_layer;  ///< null if single isn't
    std::int64_t rows;
    std::int64_t columns;
  };
  /// In the order of the file.
  static std::vector<Block> blocks(const LlamaConfig& config, bool shares_classifier) {
    using Weights = CheckpointWeights;
    const std::int64_t hidden = config.hidden_size, inner = config.intermediate_size;
    const std::int64_t kv_size = config.kv_size(), pairs = config.head_dim() / 2;
    std::vector<Block> order = {
        {&Weights::token_embedding, nullptr, config.vocab_size, hidden},
        {nullptr, &Layer::attention_norm, 1, hidden},
        {nullptr, &Layer::wq, hidden, hidden},
        {nullptr, &Layer::wk, kv_size, hidden},
        {nullptr, &Layer::wv, kv_size, hidden},
        {nullptr, &Layer::wo, hidden, hidden},
        {nullptr, &Layer::feed_forward_norm, 1, hidden},
        {nullptr, &Layer::w1, inner, hidden},
        {nullptr, &Layer::w2, hidden, inner},
        {nullptr, &Layer::w3, inner, hidden},
        {&Weights::final_norm, nullptr, 1, hidden},
        {&Weights::cosines, nullptr, config.max_len, pairs},
        {&Weights::sines, nullptr, config.max_len, pairs},
    };
    if (!shares_classifier) {
      order.push_back({&Weights::classifier, nullptr, config.vocab_size, hidden});
    }
    return order;
  }
};

/// A llama2.c checkpoint in memory. Spans point into the file's bytes, which the object owns.
class Checkpoint {
 public:
  using Layer = CheckpointWeights::Layer;

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
    bytes_ = file.read_rest(header_bytes);
    assign_weights();
  }

  const CheckpointWeights& weights() const { return weights_; }
  const LlamaConfig& config() const { return weights_.config; }
  /// True if the classifier is the token embedding.
  bool shares_classifier() const { return shares_classifier_; }

  std::span<const float> token_embedding() const { return weights_.token_embedding; }
  const std::vector<Layer>& layers() const { return weights_.layers; }
  std::span<const float> final_norm() const { return weights_.final_norm; }
  std::span<const float> classifier() const { return weights_.classifier; }

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
    weights_.config.hidden_size = positive("dim");
    weights_.config.intermediate_size = positive("hidden_dim");
    weights_.config.num_layers = positive("n_layers");
    weights_.config.num_heads = positive("n_heads");
    if (config().hidden_size % config().num_heads != 0) {
      cursor.fail("n_heads " + std::to_string(config().num_heads) + " does not divide dim " +
                      std::to_string(config().hidden_size),
                  4);
    }
    if (config().head_dim() % 2 != 0) {
      cursor.fail("head_dim " + std::to_string(config().head_dim()) +
                      " is odd: rotary embedding turns pairs",
                  4);
    }
    weights_.config.num_kv_heads = positive("n_kv_heads");
    if (config().num_heads % config().num_kv_heads != 0) {
      cursor.fail("n_kv_heads " + std::to_string(config().num_kv_heads) +
                      " does not divide n_heads " + std::to_string(config().num_heads),
                  4);
    }
    // A negative vocabulary size is how llama2.c says that the classifier has its own weights.
    const std::int64_t vocab_size = cursor.take<std::int32_t>("vocab_size");
    if (vocab_size == 0) cursor.fail("vocab_size is 0", 4);
    shares_classifier_ = vocab_size > 0;
    weights_.config.vocab_size = shares_classifier_ ? vocab_size : -vocab_size;
    weights_.config.max_len = positive("seq_len");
  }

  /// How many floats follow the header. Seven arbitrary numbers easily ask for more than 64 bits
  /// count: that throws.
  std::uint64_t num_weights(const std::string& file) const {
    constexpr auto limit = std::uint64_t(std::numeric_limits<std::int64_t>::max()) / sizeof(float);
    std::uint64_t sum = 0;
    for (const auto& block : CheckpointWeights::blocks(config(), shares_classifier_)) {
      const auto size = std::uint64_t(block.rows * block.columns);  // both are below 2^31
      const auto times = block.single ? 1 : std::uint64_t(config().num_layers);
      if (size > (limit - sum) / times) {
        fail_at(file, 0, "the header's sizes ask for more bytes than 63 bits count");
      }
      sum += size * times;
    }
    return sum;
  }

  void assign_weights() {
    const auto* next = reinterpret_cast<const float*>(bytes_.data());
    const auto take = [&next](const CheckpointWeights::Block& block) {
      const auto size = static_cast<std::size_t>(block.rows * block.columns);
      return std::span<const float>(std::exchange(next, next + size), size);
    };
    weights_.layers.resize(static_cast<std::size_t>(config().num_layers));
    for (const auto& block : CheckpointWeights::blocks(config(), shares_classifier_)) {
      if (block.single) {
        weights_.*block.single = take(block);
      } else {
        for (Layer& layer : weights_.layers) layer.*block.per_layer = take(block);
      }
    }
    if (shares_classifier_) weights_.classifier = weights_.token_embedding;
  }

  static constexpr std::int32_t ak42 = 0x616b3432;  // begins the later versions

  bool shares_classifier_ = true;
  AlignedBytes bytes_;
  CheckpointWeights weights_;
};

/// Writes a llama2.c checkpoint. The rotary tables are made anew; an empty classifier means the
/// embedding. Throws std::invalid_argument if a span isn't of the size that the configuration says,
/// std::runtime_error if the file cannot be written: `path` is then as it was.
inline void write_checkpoint(const std::filesystem::path& path, CheckpointWeights weights) {
  const LlamaConfig& c = weights.config;
  if (weights.classifier.empty()) weights.classifier = weights.token_embedding;
  const bool shares_classifier = weights.shares_classifier();
  const std::int64_t pairs = c.head_dim() / 2;
  std::vector<float> cosines, sines;
  for (std::int64_t position = 0; position < c.max_len; ++position) {
    for (std::int64_t i = 0; i < pairs; ++i) {
      const double angle =
          static_cast<double>(position) *
          std::pow(c.rope_theta, -static_cast<double>(i) / static_cast<double>(pairs));
      cosines.push_back(static_cast<float>(std::cos(angle)));
      sines.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  weights.cosines = cosines;
  weights.sines = sines;

  if (std::ssize(weights.layers) != c.num_layers) {
    throw std::invalid_argument("a checkpoint of " + std::to_string(c.num_layers) +
                                " layers was given " + std::to_string(weights.layers.size()));
  }
  FileWriter file;
  for (const std::int64_t n :
       {c.hidden_size, c.intermediate_size, c.num_layers, c.num_heads, c.num_kv_heads,
        shares_classifier ? c.vocab_size : -c.vocab_size, c.max_len}) {
    file.put(static_cast<std::int32_t>(n));
  }
  const auto put = [&](const CheckpointWeights::Block& block, std::span<const float> values) {
    if (std::ssize(values) != block.rows * block.columns) {
      throw std::invalid_argument("a checkpoint's weight [" + std::to_string(block.rows) + ", " +
                                  std::to_string(block.columns) + "] was given " +
                                  std::to_string(values.size()) + " numbers");
    }
    file.put(values);
  };
  for (const auto& block : CheckpointWeights::blocks(c, shares_classifier)) {
    if (block.single) {
      put(block, weights.*block.single);
    } else {
      for (const auto& layer : weights.layers) put(block, layer.*block.per_layer);
    }
  }
  file.write(path);
}

}  // namespace gqa::examples
