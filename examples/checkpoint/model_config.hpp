// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What the config.json of a Hugging Face model says, read in one way for all that need it. null is
// what Python writes for a value that wasn't set: it means the default everywhere. Rotary embedding
// is described in "rope_parameters" by newer versions of transformers, in "rope_theta",
// "rope_scaling" and "partial_rotary_factor" by older ones.
#pragma once

#include <cstdint>
#include <filesystem>
#include <gqa/ops/rope_scaling.hpp>
#include <optional>
#include <string>

#include "support/json.hpp"

namespace gqa::examples {

class ModelConfig {
 public:
  /// Throws std::runtime_error, naming the file and what is wrong with it.
  explicit ModelConfig(const std::filesystem::path& path);

  std::string model_type;  ///< empty if the file names none
  std::int64_t hidden_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;    ///< hidden_size / num_heads, rounded down, unless the file gives it
  std::int64_t rotary_dim = 0;  ///< channels of a head that are rotated
  std::optional<std::int64_t> intermediate_size, vocab_size, max_position_embeddings;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;

  /// Throws std::runtime_error for a scaling other than default, linear and llama3.
  RopeConfig rope() const;

  const std::string& file() const { return file_; }
  const OrderedJson& json() const { return json_; }
  /// The value under this name, or null.
  const OrderedJson& value(const char* name) const;
  /// Throws std::runtime_error: the file's name and `what`.
  [[noreturn]] void fail(const std::string& what) const;

 private:
  void read_rope();

  std::string file_;
  OrderedJson json_;
  std::string rope_name_;  // which entry of the file it is
  OrderedJson rope_;       // an object, or null
};

}  // namespace gqa::examples
