// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The same functions from several translation units, each compiled for another instruction set.
// Caches and layers are passed between them: data types are the same for all, code is not.
#pragma once

#include <cstddef>
#include <gqa/gqa.hpp>
#include <string>

namespace unit {

using Cache = gqa::KvCache<float>;  // run-time heads
using Layer = gqa::MultiHeadAttention<float>;
using Rows = gqa::TensorView<const float>;

inline constexpr gqa::Index num_heads = 6, num_kv_heads = 2, head_dim = 40;
inline constexpr gqa::Index hidden_size = num_heads * head_dim;

/// What one translation unit offers, compiled there.
struct Unit {
  bool (*runs_here)();     ///< the machine has its instructions
  const char* (*isa)();    ///< what gqa says it is compiled for
  Cache* (*make_cache)();  ///< 1 sequence, room for 256 tokens
  void (*append)(Cache& cache, Rows k, Rows v);
  void (*attend)(Rows q, const Cache& cache, gqa::TensorView<float> out);
  void (*destroy_cache)(Cache* cache);
  Layer* (*make_layer)(const float* const (&weights)[4]);  ///< wq, wk, wv, wo
  void (*forward)(const Layer& layer, Rows x, gqa::TensorView<float> y, Cache* cache);
  void (*destroy_layer)(Layer* layer);
};

extern const Unit baseline;  ///< x86-64: SSE2
extern const Unit avx2;      ///< x86-64-v3
extern const Unit avx512;    ///< x86-64-v4
extern const Unit native;    ///< what this machine has
extern const Unit again;     ///< x86-64-v3 a second time: the same symbols twice

}  // namespace unit
