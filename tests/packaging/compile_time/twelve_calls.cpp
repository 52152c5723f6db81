// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Four caches under three sets of rules, as an engine has that lets its user choose.
#include <Eigen/Dense>
#include <gqa/attention.hpp>
#include <unsupported/Eigen/CXX11/Tensor>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;

template <typename Cache>
void steps(const Tensor& q, const Cache& cache, Tensor& out) {
  gqa::attend(q, cache, out, gqa::Causal{});
  gqa::attend(q, cache, out, gqa::Causal{} & gqa::SlidingWindow::from_hf(256));
  gqa::attend(q, cache, out, gqa::Causal{} & gqa::SoftCap{50.0f});
}
template void steps(const Tensor&, const gqa::KvCache<float>&, Tensor&);
template void steps(const Tensor&, const gqa::KvCache<gqa::bfloat16>&, Tensor&);
template void steps(const Tensor&, const gqa::KvCache<gqa::Int8>&, Tensor&);
template void steps(const Tensor&, const gqa::PagedKvCache<float>&, Tensor&);
