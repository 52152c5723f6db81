// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Eigen's default is column-major, which would read batch as the contiguous dimension.
// EXPECT: RowMajor tensor.*Eigen::Tensor<T, 4, Eigen::RowMajor>
#include <gqa/gqa.hpp>

#ifdef FIXED
using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
#else
using Tensor = Eigen::Tensor<float, 4>;
#endif

void decode(const Tensor& q, const gqa::KvCache<float>& cache, Tensor& out) {
  gqa::attend(q, cache, out, gqa::Causal{});
}
