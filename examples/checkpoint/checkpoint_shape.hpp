// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What of a checkpoint has heads: the tensors of its attention layers, by the names that Hugging
// Face gives them, all checked against config.json before any of them is touched.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <gqa/module/config.hpp>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

#include "checkpoint/folder.hpp"

namespace gqa::examples {

/// "model.layers.3.self_attn.k_proj.weight"
inline std::string tensor_name(Index layer, const std::string& rest) {
  return "model.layers." + std::to_string(layer) + "." + rest;
}
inline std::string attention_name(Index layer, const std::string& rest) {
  return tensor_name(layer, "self_attn." + rest);
}

/// The shape of the model, as its config.json and tensors agree on it.
struct CheckpointShape {
  Index hidden_size = 0, num_layers = 0;
  MultiHeadAttentionConfig attention;

  /// Throws std::runtime_error for what config.json doesn't say, or the tensors contradict.
  explicit CheckpointShape(const CheckpointFolder& folder) {
    const ModelConfig& config = folder.config();
    hidden_size = config.hidden_size;
    num_layers = config.num_layers;
    attention.hidden_size = hidden_size;
    attention.num_heads = config.num_heads;
    attention.num_kv_heads = config.num_kv_heads;
    attention.head_dim = config.head_dim;
    attention.qkv_bias = folder.contains(attention_name(0, "k_proj.bias"));
    if (folder.contains(attention_name(0, "k_norm.weight"))) attention.qk_norm = QkNorm{};
    attention.rope = RopeConfig{.rotary_dim = config.rotary_dim, .style = RopeStyle::rotate_half};
    try {
      attention = resolved(attention);
    } catch (const std::logic_error& error) {  // numbers that contradict or overflow
      config.fail(error.what());
    }
    check(folder);
  }

  /// Whatever else belongs to heads would be copied and might no longer fit: throws
  /// std::runtime_error for such tensors. `averages`: keys and values only become averages or parts
  /// of what they were. Then what belongs to queries stays right, and so does a number that is
  /// large enough for all keys (the scale of a quantized cache).
  void check_others(const CheckpointFolder& folder, bool averages) const {
    for (const auto& [name, place] : folder.tensors()) {
      if (knows(name, *place.tensor, averages)) continue;
      fail_at(place.shard->path(), place.tensor->byte,
              describe(name, *place.tensor) + " has no meaning in a model of " +
                  std::to_string(num_layers) + " layers whose KV heads become fewer");
    }
  }

 private:
  void check(const CheckpointFolder& folder) const {
    const auto& c = attention;
    for (Index i = 0; i < num_layers; ++i) {
      const auto shape = [&](const char* name, Index rows, Index cols) {
        folder.check_shape(attention_name(i, name), rows, cols);
      };
      shape("q_proj.weight", c.query_width(), hidden_size);
      shape("k_proj.weight", c.key_width(), hidden_size);
      shape("v_proj.weight", c.value_width(), hidden_size);
      shape("o_proj.weight", hidden_size, c.attention_width());
      if (c.qkv_bias) {
        shape("q_proj.bias", c.query_width(), 1);
        shape("k_proj.bias", c.key_width(), 1);
        shape("v_proj.bias", c.value_width(), 1);
      }
      if (c.qk_norm) {
        shape("q_norm.weight", c.head_dim, 1);
        shape("k_norm.weight", c.head_dim, 1);
      }
    }
  }

  /// Whether a conversion knows what becomes of this tensor.
  bool knows(const std::string& name, const FileTensor& tensor, bool averages) const {
    const std::string rest = rest_in_attention(name);
    if (rest.empty()) return !sounds_of_keys_or_values(name);
    const auto is_one_of = [&](std::initializer_list<std::string_view> names) {
      return std::ranges::find(names, rest) != names.end();
    };
    if (is_one_of({"q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight",
                   "o_proj.bias", "rotary_emb.inv_freq"}) ||
        (attention.qkv_bias && is_one_of({"q_proj.bias", "k_proj.bias", "v_proj.bias"})) ||
        (attention.qk_norm && is_one_of({"q_norm.weight", "k_norm.weight"}))) {
      return true;
    }
    return averages && (rest.starts_with("q_") || rest.starts_with("o_") ||
                        is_one_of({"sinks", "attn_sub_norm.weight"}) || tensor.size() == 1);
  }

  /// What follows "model.layers.3.self_attn." in a name, for a layer that there is.
  std::string rest_in_attention(const std::string& name) const {
    constexpr std::string_view layers = "model.layers.", part = ".self_attn.";
    const auto at = name.find(part);
    if (at == std::string::npos || !name.starts_with(layers)) return "";
    const std::string number = name.substr(layers.size(), at - layers.size());
    Index layer = -1;
    std::from_chars(number.data(), number.data() + number.size(), layer);
    if (layer < 0 || layer >= num_layers || number != std::to_string(layer)) return "";
    return name.substr(at + part.size());
  }

  /// Whether a tensor elsewhere has the name of a projection, norm or scale of keys or values:
  /// "…layers.0.attn.k_scale", "…layers.7.cross_attention.key_layernorm.weight".
  static bool sounds_of_keys_or_values(std::string_view name) {
    bool in_layer = false;
    while (!name.empty()) {
      const std::string_view part = name.substr(0, name.find('.'));
      name.remove_prefix(std::min(part.size() + 1, name.size()));
      if (part == "k_proj" || part == "v_proj" || part == "k_norm") return true;
      for (const std::string_view start : {"k_", "v_", "kv_", "qkv", "key", "value"}) {
        if (in_layer && part.starts_with(start)) return true;
      }
      in_layer |= part == "layers";
    }
    return false;
  }
};

}  // namespace gqa::examples
