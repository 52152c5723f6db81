// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A cache that tokens are appended to can't be const, and the errors say so.
// EXPECT: MultiHeadAttention::forward: the cache is const
// EXPECT: NotConst
#include <gqa/gqa.hpp>

#ifdef FIXED
using Cache = gqa::KvCache<float>;
#else
using Cache = const gqa::KvCache<float>;
#endif

void forward(const gqa::MultiHeadAttention<float>& layer, gqa::TensorView<const float> x,
             gqa::TensorView<float> y, Cache& cache) {
  layer.forward(x, y, &cache);
}
void project(const gqa::MultiHeadAttention<float>& layer, gqa::TensorView<const float> memory,
             Cache& cache) {
  layer.project_memory(memory, cache);
}
void plan(gqa::AppendTransaction& step, Cache& cache) { step.plan(cache, 0, 1); }
