// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Compiled once per unit, with GQA_UNIT its name and GQA_UNIT_RUNS_HERE an expression that says
// whether this machine can run it. Compiled without optimisation: then every inline function is a
// symbol of its own, which the linker merges with those of the other units.
#include "unit.hpp"

namespace unit {
namespace {

bool runs_here() { return GQA_UNIT_RUNS_HERE; }
const char* isa() { return gqa::simd::isa_name; }
Cache* make(const gqa::Heads<>& heads) {
  return new Cache({.batch = 1, .capacity = 256, .heads = heads});
}
void append(Cache& cache, gqa::TensorView<const float> k, gqa::TensorView<const float> v) {
  cache.append(k, v);
}
void attend(gqa::TensorView<const float> q, const Cache& cache, gqa::TensorView<float> out) {
  gqa::attend(q, cache, out, gqa::Causal{});
}
void destroy(Cache* cache) { delete cache; }

}  // namespace

extern const Unit GQA_UNIT;
const Unit GQA_UNIT{.runs_here = runs_here,
                    .isa = isa,
                    .make = make,
                    .append = append,
                    .attend = attend,
                    .destroy = destroy};

}  // namespace unit
