// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The same functions from several translation units, each compiled for another instruction set.
// Caches are passed between them: data types are the same for all, code is not.
#pragma once

#include <cstddef>
#include <gqa/gqa.hpp>
#include <string>

namespace unit {

using Cache = gqa::KvCache<float>;  // run-time heads

/// What one translation unit offers, compiled there.
struct Unit {
  bool (*runs_here)();                        ///< the machine has its instructions
  const char* (*isa)();                       ///< what gqa says it is compiled for
  Cache* (*make)(const gqa::Heads<>& heads);  ///< 1 sequence, room for 256 tokens
  void (*append)(Cache& cache, gqa::TensorView<const float> k, gqa::TensorView<const float> v);
  void (*attend)(gqa::TensorView<const float> q, const Cache& cache, gqa::TensorView<float> out);
  void (*destroy)(Cache* cache);
};

extern const Unit baseline;  ///< x86-64-v2: no AVX
extern const Unit avx2;      ///< x86-64-v3
extern const Unit native;    ///< what this machine has
extern const Unit again;     ///< native a second time: the same symbols twice

}  // namespace unit
