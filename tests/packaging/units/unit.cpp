// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Compiled once per unit, with GQA_UNIT its name.
#include "unit.hpp"

namespace unit {
namespace {

bool runs_here() {
  bool runs = true;
#ifdef __AVX2__
  runs = runs && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
#ifdef __AVX512F__
  runs = runs && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
#endif
#ifdef __AVX512VNNI__
  runs = runs && __builtin_cpu_supports("avx512vnni");
#endif
#ifdef __AVX512BF16__
  runs = runs && __builtin_cpu_supports("avx512bf16");
#endif
  return runs;
}
const char* isa() { return gqa::simd::isa_name; }

Cache* make_cache() {
  return new Cache(
      {.batch = 1, .capacity = 256, .heads = gqa::Heads<>(num_heads, num_kv_heads, head_dim)});
}
void append(Cache& cache, Rows k, Rows v) { cache.append(k, v); }
void attend(Rows q, const Cache& cache, gqa::TensorView<float> out) {
  gqa::attend(q, cache, out, gqa::Causal{});
}
void destroy_cache(Cache* cache) { delete cache; }

Layer* make_layer(const float* const (&weights)[4]) {
  auto* layer = new Layer({.hidden_size = hidden_size,
                           .num_heads = num_heads,
                           .num_kv_heads = num_kv_heads,
                           .rope = gqa::RopeConfig{}});
  const char* const names[] = {"wq", "wk", "wv", "wo"};
  constexpr gqa::Index kv_width = num_kv_heads * head_dim;
  const gqa::Index rows[] = {hidden_size, kv_width, kv_width, hidden_size};
  for (int i = 0; i < 4; ++i) {
    layer->set_weight(names[i],
                      std::span(weights[i], static_cast<std::size_t>(rows[i] * hidden_size)));
  }
  return layer;
}
void forward(const Layer& layer, Rows x, gqa::TensorView<float> y, Cache* cache) {
  if (cache) {
    layer.forward(x, y, cache);
  } else {
    layer.forward(x, y);
  }
}
void destroy_layer(Layer* layer) { delete layer; }

}  // namespace

extern const Unit GQA_UNIT;
const Unit GQA_UNIT{.runs_here = runs_here,
                    .isa = isa,
                    .make_cache = make_cache,
                    .append = append,
                    .attend = attend,
                    .destroy_cache = destroy_cache,
                    .make_layer = make_layer,
                    .forward = forward,
                    .destroy_layer = destroy_layer};

}  // namespace unit
