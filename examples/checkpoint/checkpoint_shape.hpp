// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What of a checkpoint has heads: the tensors of its attention layers, by the names that Hugging
// Face gives them, all checked against config.json before any of them is touched.
#pragma once

#include <algorithm>
#include <cstdint>
#include <gqa/module/config.hpp>
#include <stdexcept>
#include <string>

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
    const OrderedJson& config = folder.config();
    const auto file = (folder.path() / "config.json").string();
    const auto whole = [&](const char* name, Index otherwise) {
      if (!config.contains(name) || config[name].is_null()) {
        if (otherwise == 0) throw std::runtime_error(file + ": has no " + name);
        return otherwise;
      }
      const auto& value = config[name];
      if (!value.is_number_unsigned() || value.get<std::uint64_t>() == 0 ||
          value.get<std::uint64_t>() > (std::uint64_t{1} << 31)) {
        throw std::runtime_error(file + ": " + name + " is " + value.dump());
      }
      return static_cast<Index>(value.get<std::uint64_t>());
    };
    hidden_size = whole("hidden_size", 0);
    num_layers = whole("num_hidden_layers", 0);
    attention.hidden_size = hidden_size;
    attention.num_heads = whole("num_attention_heads", 0);
    attention.num_kv_heads = whole("num_key_value_heads", attention.num_heads);
    attention.head_dim = whole("head_dim", std::max<Index>(hidden_size / attention.num_heads, 1));
    attention.qkv_bias = folder.contains(attention_name(0, "k_proj.bias"));
    if (folder.contains(attention_name(0, "k_norm.weight"))) attention.qk_norm = QkNorm{};
    RopeConfig rope{.style = RopeStyle::rotate_half};
    if (config.contains("partial_rotary_factor") && config["partial_rotary_factor"].is_number()) {
      const double part = config["partial_rotary_factor"].get<double>();
      if (!(part > 0 && part <= 1)) {
        throw std::runtime_error(file + ": partial_rotary_factor is " + std::to_string(part));
      }
      rope.rotary_dim = static_cast<Index>(part * static_cast<double>(attention.head_dim));
    }
    attention.rope = rope;
    try {
      attention = resolved(attention);
    } catch (const std::invalid_argument& error) {
      throw std::runtime_error(file + ": " + error.what());
    }
    check(folder);
  }

 private:
  void check(const CheckpointFolder& folder) const {
    const auto& c = attention;
    for (Index i = 0; i < num_layers; ++i) {
      const auto shape = [&](const char* name, Index rows, Index cols) {
        folder.check_shape(attention_name(i, name), rows, cols);
        const auto [shard, tensor] = folder.find(attention_name(i, name));
        if (tensor->dtype != DType::f32 && tensor->dtype != DType::f16 &&
            tensor->dtype != DType::bf16) {
          fail_at(shard->path(), tensor->byte,
                  describe(attention_name(i, name), *tensor) + " is none of F32, F16, BF16");
        }
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
    // Whatever else belongs to keys and values would be copied and no longer fit.
    for (const auto& [name, place] : folder.tensors()) {
      for (const char* part : {".k_proj.", ".v_proj.", ".k_norm."}) {
        const auto at = name.find(part);
        if (at == std::string::npos) continue;
        const std::string rest = name.substr(at + 1);
        bool known = false;
        for (Index i = 0; i < num_layers && !known; ++i) {
          known =
              name == attention_name(i, rest) &&
              (rest.ends_with("_proj.weight") || (attention.qkv_bias && rest.ends_with(".bias")) ||
               (attention.qk_norm && rest == "k_norm.weight"));
        }
        if (!known) {
          fail_at(place.shard->path(), place.tensor->byte,
                  describe(name, *place.tensor) + " has no meaning in a model of " +
                      std::to_string(num_layers) + " layers");
        }
      }
    }
  }
};

}  // namespace gqa::examples
