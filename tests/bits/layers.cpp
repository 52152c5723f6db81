// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// MultiHeadAttention: forward with and without a cache, forward and backward of training, and
// cross-attention.
#include "cases.hpp"

namespace gqa::bits {
namespace {

const char* const weight_names[] = {
    "q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight", "q_proj.bias",
    "k_proj.bias",   "v_proj.bias",   "o_proj.bias",   "q_norm.weight", "k_norm.weight"};

/// Numbers of a weight; 0 where the layer has none.
template <typename T>
std::size_t size_of(const AttentionWeights<T>& weights, const char* name) {
  const auto shape = weights.shape_of(find_attention_weight(name)->weight);
  return static_cast<std::size_t>(shape.rows * shape.cols);
}

template <typename T>
MultiHeadAttention<T> make_layer(const MultiHeadAttentionConfig& config) {
  MultiHeadAttention<T> layer(config);
  std::uint64_t seed = 40;
  for (const char* name : weight_names) {
    const std::size_t size = size_of(layer.weights(), name);
    if (size == 0) continue;
    std::vector<T> x(size);
    ++seed;
    for (std::size_t i = 0; i < size; ++i) x[i] = number<T>(seed, i, -2);
    layer.set_weight(name, x);
  }
  return layer;
}

struct NamedConfig {
  const char* name;
  MultiHeadAttentionConfig config;
};

std::vector<NamedConfig> configs() {
  MultiHeadAttentionConfig mha{.hidden_size = 96, .num_heads = 3};
  MultiHeadAttentionConfig llama{.hidden_size = 128, .num_heads = 8, .num_kv_heads = 2};
  llama.rope = RopeConfig{};
  MultiHeadAttentionConfig qwen{
      .hidden_size = 80, .num_heads = 14, .num_kv_heads = 2, .head_dim = 40, .value_dim = 24};
  qwen.qkv_bias = qwen.out_bias = true;
  qwen.qk_norm = QkNorm{};
  qwen.rope = RopeConfig{};
  qwen.rope->style = RopeStyle::rotate_half;
  qwen.rope->rotary_dim = 32;
  qwen.scale = 0.2;
  return {{"mha", mha}, {"llama", llama}, {"qwen", qwen}};
}

/// Hidden states.
template <typename T>
struct Hidden : Tensor<T> {
  Hidden(Index batch, Index tokens, Index width, std::uint64_t seed)
      : Tensor<T>({batch, tokens, 1, width}, seed, 0), dimensions{batch, tokens, width} {}
  Index dimensions[3];
  auto map() {
    return Eigen::TensorMap<Eigen::Tensor<T, 3, Eigen::RowMajor>>(
        this->numbers().data(), dimensions[0], dimensions[1], dimensions[2]);
  }
};

template <typename T>
std::string layer_name(const char* what, const NamedConfig& c) {
  return std::string("layers/") + scalar_name<T>() + "/" + what + "/" + c.name;
}

template <typename T, typename RulesT>
void without_cache(const char* rules_name, const RulesT& rules) {
  for (const NamedConfig& c : configs()) {
    const auto layer = make_layer<T>(c.config);
    for (const Index tokens : {1, 9, 70}) {
      Hidden<T> x(2, tokens, c.config.hidden_size, 50), y = x;
      const std::vector<Index> q_lens = {tokens, tokens - 1};
      layer.forward(x.map(), y.map(), nullptr, nullptr, rules, Workers{3}, q_lens);
      Digest digest;
      digest.add(y.numbers());
      report(layer_name<T>(rules_name, c) + "/" + std::to_string(tokens), digest.value());
    }
  }
}

/// A prompt, then tokens one by one.
template <typename T, typename Cache>
void with_cache(const char* name, Cache make_cache) {
  for (const NamedConfig& c : configs()) {
    const auto layer = make_layer<T>(c.config);
    auto cache = make_cache(layer.heads());
    for (const Index tokens : {70, 1, 1, 5}) {
      Hidden<T> x(2, tokens, c.config.hidden_size, 50), y = x;
      layer.forward(x.map(), y.map(), &cache, nullptr, Causal{}, Workers{3});
      Digest digest;
      digest.add(y.numbers());
      report(layer_name<T>(name, c) + "/" + std::to_string(cache.length(0)), digest.value());
    }
  }
}

template <typename T>
void add_gradients(Digest& digest, const AttentionWeights<T>& gradients) {
  for (const char* name : weight_names) {
    std::vector<T> x(size_of(gradients, name));
    if (x.empty()) continue;
    gradients.get(name, x);
    digest.add(x);
  }
}

template <typename T, typename RulesT>
void trained(const char* rules_name, const RulesT& rules) {
  for (const NamedConfig& c : configs()) {
    const auto layer = make_layer<T>(c.config);
    for (const Index tokens : {5, 70}) {
      const Index width = c.config.hidden_size;
      Hidden<T> x(2, tokens, width, 50), dy(2, tokens, width, 51), y = x, dx = x;
      AttentionRecord<T> record;
      layer.forward(x.map(), y.map(), record, nullptr, rules, Workers{2});
      AttentionWeights<T> of_weights(layer.config());
      layer.backward(x.map(), dy.map(), dx.map(), record, of_weights, nullptr, rules, Workers{2});
      Digest digest;
      digest.add(y.numbers());
      digest.add(dx.numbers());
      add_gradients(digest, of_weights);
      report(layer_name<T>(rules_name, c) + "/" + std::to_string(tokens), digest.value());
    }
  }
}

void crossed() {
  MultiHeadAttentionConfig config{
      .hidden_size = 96, .num_heads = 6, .num_kv_heads = 2, .kv_hidden_size = 64};
  config.qkv_bias = config.out_bias = true;
  const auto layer = make_layer<float>(config);
  Hidden<float> x(2, 7, 96, 50), memory(2, 90, 64, 51), dy(2, 7, 96, 52), y = x, dx = x,
                                                                          dmemory = memory;
  const std::vector<Index> memory_lens = {90, 33};

  KvCache<float> cache({.batch = 2, .capacity = 90, .heads = layer.heads()});
  layer.project_memory(memory.map(), cache, nullptr, Workers{2}, memory_lens);
  layer.cross(x.map(), y.map(), cache, nullptr, NoMask{}, Workers{2});
  Digest digest;
  digest.add(y.numbers());
  report("layers/f32/cross", digest.value());

  AttentionRecord<float> record;
  AttentionWeights<float> of_weights(layer.config());
  layer.cross(x.map(), memory.map(), y.map(), record, nullptr, NoMask{}, Workers{2}, {},
              memory_lens);
  layer.cross_backward(x.map(), memory.map(), dy.map(), dx.map(), dmemory.map(), record, of_weights,
                       nullptr, NoMask{}, Workers{2}, {}, memory_lens);
  Digest of_training;
  of_training.add(y.numbers());
  of_training.add(dx.numbers());
  of_training.add(dmemory.numbers());
  add_gradients(of_training, of_weights);
  report("layers/f32/cross_trained", of_training.value());
}

}  // namespace

void layers() {
  const auto contiguous = []<typename Storage>(Storage) {
    return [](const Heads<>& heads) {
      return KvCache<Storage>({.batch = 2, .capacity = 100, .heads = heads});
    };
  };
  without_cache<float>("causal", Causal{});
  without_cache<float>("cap", SoftCap{5.0f} & NoMask{});
  without_cache<double>("causal", Causal{});
  with_cache<float>("cache_f32", contiguous(float()));
  with_cache<float>("cache_bf16", contiguous(bfloat16()));
  with_cache<float>("cache_int8", contiguous(Int8()));
  with_cache<float>("pages_f32", [](const Heads<>& heads) {
    const auto allocator = std::make_shared<PageAllocator>(
        PageAllocator::Options{.pages = 8, .page_bytes = PagedKvCache<float>::page_bytes(heads)});
    return PagedKvCache<float>(allocator, {.batch = 2, .capacity = 100, .heads = heads});
  });
  trained<float>("trained_causal", Causal{});
  trained<float>("trained_causal_cap", Causal{} & SoftCap{5.0f});
  trained<double>("trained_causal", Causal{});
  crossed();
}

}  // namespace gqa::bits
