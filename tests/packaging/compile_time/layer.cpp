// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A step of one layer with its cache.
#include <Eigen/Dense>
#include <gqa/cache/contiguous.hpp>
#include <gqa/module/multi_head_attention.hpp>
#include <unsupported/Eigen/CXX11/Tensor>

using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;

void step(const gqa::MultiHeadAttention<float>& layer, const Tensor& x, gqa::KvCache<float>& cache,
          Tensor& y) {
  layer.forward(x, y, &cache);
}
