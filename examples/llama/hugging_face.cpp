// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "llama/hugging_face.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gqa::examples {

LlamaConfig llama_config(const ModelConfig& model) {
  const auto refuse_unless = [&](const char* name, const OrderedJson& only) {
    const OrderedJson& value = model.value(name);
    if (!value.is_null() && value != only) {
      model.fail(std::string(name) + " is " + json_text(value) + ", this example knows only " +
                 only.dump());
    }
  };
  const auto needed = [&](const std::optional<std::int64_t>& value, const char* name) {
    if (!value) model.fail(std::string(name) + " is missing");
    return *value;
  };
  LlamaConfig config;
  config.hidden_size = model.hidden_size;
  config.intermediate_size = needed(model.intermediate_size, "intermediate_size");
  config.num_layers = model.num_layers;
  config.num_heads = model.num_heads;
  config.num_kv_heads = model.num_kv_heads;
  config.vocab_size = needed(model.vocab_size, "vocab_size");
  config.max_len = model.max_position_embeddings.value_or(2048);
  config.rms_norm_eps = static_cast<float>(model.rms_norm_eps);

  if (config.hidden_size % config.num_heads != 0) {
    model.fail("num_attention_heads " + std::to_string(config.num_heads) +
               " does not divide hidden_size " + std::to_string(config.hidden_size));
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    model.fail("num_key_value_heads " + std::to_string(config.num_kv_heads) +
               " does not divide num_attention_heads " + std::to_string(config.num_heads));
  }
  refuse_unless("model_type", "llama");
  refuse_unless("hidden_act", "silu");
  refuse_unless("head_dim", config.head_dim());
  refuse_unless("attention_bias", false);
  refuse_unless("mlp_bias", false);
  const RopeConfig rope = model.rope();
  config.rope_theta = rope.theta;
  config.rotary_dim = rope.rotary_dim;
  config.rope_scaling = rope.scaling;
  return config;
}

LlamaConfig read_hugging_face_config(const std::filesystem::path& path) {
  return llama_config(ModelConfig(path));
}

namespace {

/// A tensor of this shape as float. Throws std::runtime_error if it has another one.
std::vector<float> read_weight(const SafeTensors& file, const std::string& name,
                               const std::vector<std::int64_t>& shape) {
  if (file.shape(name) != shape) {
    fail_at(file.file(), file.tensor(name).byte,
            "tensor \"" + name + "\" is " + to_string(file.shape(name)) +
                ", the configuration asks for " + to_string(shape));
  }
  return file.to_float(name);
}
Llama::Matrix read_matrix(const SafeTensors& file, const std::string& name, Index rows,
                          Index columns) {
  return Eigen::Map<const Llama::Matrix>(read_weight(file, name, {rows, columns}).data(), rows,
                                         columns);
}

}  // namespace

Llama::Llama(const LlamaConfig& config, const SafeTensors& file) : config_(config) {
  const Index hidden = config_.hidden_size, inner = config_.intermediate_size;
  embedding_ = read_matrix(file, "model.embed_tokens.weight", config_.vocab_size, hidden);
  for (Index i = 0; i < config_.num_layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    Layer& layer = add_layer(RopeStyle::rotate_half);
    layer.attention_norm = read_weight(file, prefix + "input_layernorm.weight", {hidden});
    const auto set_attention = [&](const std::string& name, Index rows, Index columns) {
      const std::string full_name = prefix + "self_attn." + name;
      layer.attention.set_weight(full_name, read_matrix(file, full_name, rows, columns));
    };
    set_attention("q_proj.weight", hidden, hidden);
    set_attention("k_proj.weight", config_.kv_size(), hidden);
    set_attention("v_proj.weight", config_.kv_size(), hidden);
    set_attention("o_proj.weight", hidden, hidden);
    layer.feed_forward_norm =
        read_weight(file, prefix + "post_attention_layernorm.weight", {hidden});
    layer.gate = read_matrix(file, prefix + "mlp.gate_proj.weight", inner, hidden);
    layer.up = read_matrix(file, prefix + "mlp.up_proj.weight", inner, hidden);
    layer.down = read_matrix(file, prefix + "mlp.down_proj.weight", hidden, inner);
  }
  final_norm_ = read_weight(file, "model.norm.weight", {hidden});
  if (file.contains("lm_head.weight")) {
    classifier_ = read_matrix(file, "lm_head.weight", config_.vocab_size, hidden);
  }
}

}  // namespace gqa::examples
