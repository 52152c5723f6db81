// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What caches of every kind do beside being attended to, and the row operations around them, for
// shared_code.sh: this file and unit.cpp are compiled for several instruction sets. Nothing is run.
#include <gqa/gqa.hpp>
#include <iostream>

namespace unit::GQA_UNIT {
using Rows = gqa::TensorView<const float>;
template <typename Cache>
void use(Cache& cache, Rows k, Rows v, std::iostream& file) {
  cache.append(k, v);
  cache.append(0, k, v);
  cache.truncate(0, 1);
  cache.fork(0, 0);
  const gqa::Index order[] = {0};
  cache.reorder(order);
  gqa::AppendTransaction step;
  step.plan(cache, 0, 1);
  gqa::select(cache, order).append(k, v);
  step.commit();
  gqa::save(cache, file);
  gqa::load(cache, file);
  Cache other = cache.clone();
  cache = std::move(other);
  cache.clear(0);
}
template void use(gqa::KvCache<float>&, Rows, Rows, std::iostream&);
template void use(gqa::KvCache<gqa::bfloat16>&, Rows, Rows, std::iostream&);
template void use(gqa::KvCache<gqa::half>&, Rows, Rows, std::iostream&);
template void use(gqa::KvCache<gqa::Int8>&, Rows, Rows, std::iostream&);
template void use(gqa::KvCache<gqa::Int4>&, Rows, Rows, std::iostream&);
template void use(gqa::RingKvCache<float>&, Rows, Rows, std::iostream&);
template void use(gqa::PagedKvCache<float>&, Rows, Rows, std::iostream&);
void rows(gqa::TensorView<float> x, std::span<const float> weight, gqa::KvCache<float>& cache) {
  const gqa::RopeTable<float> table({}, 64);
  gqa::apply_rope(table, x, gqa::RopePositions(3));
  gqa::rms_norm(x, weight, x);
  gqa::apply_hadamard(x);
  gqa::drop_tokens(cache, 0, 1, 2, table);
  gqa::merge_states<float>(x, {}, x, {});
}
void stack(gqa::KvCacheStack<gqa::KvCache<float>>& stack, std::iostream& file) {
  gqa::KvCacheStack<gqa::KvCache<float>> copy = stack.clone();
  stack = std::move(copy);
  stack.truncate(0, 1);
  gqa::save(stack, file);
  gqa::load(stack, file);
}
void memory() { gqa::plan_kv_memory({}); }
}  // namespace unit::GQA_UNIT
