// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// One attend().
#include <Eigen/Dense>
#include <gqa/attention.hpp>
#include <unsupported/Eigen/CXX11/Tensor>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;

void step(const Tensor& q, const gqa::KvCache<float>& cache, Tensor& out) {
  gqa::attend(q, cache, out, gqa::Causal{});
}
