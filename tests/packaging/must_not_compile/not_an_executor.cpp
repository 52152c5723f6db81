// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The number of threads is no executor: the library starts none.
// EXPECT: gqa::Executor
#include <gqa/gqa.hpp>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;

void decode(const Tensor& q, const gqa::KvCache<float>& cache, Tensor& out) {
#ifdef FIXED
  gqa::attend(q, cache, out, gqa::Causal{}, {}, gqa::Serial{});
#else
  gqa::attend(q, cache, out, gqa::Causal{}, {}, 8);
#endif
}
