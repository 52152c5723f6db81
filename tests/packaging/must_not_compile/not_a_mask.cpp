// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A number is no mask: the error names the concept.
// EXPECT: no matching function for call to .*attend
// EXPECT: RulesOrPart
#include <gqa/gqa.hpp>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;

void decode(const Tensor& q, const gqa::KvCache<float>& cache, Tensor& out) {
#ifdef FIXED
  gqa::attend(q, cache, out, gqa::Causal{});
#else
  gqa::attend(q, cache, out, 7);
#endif
}
