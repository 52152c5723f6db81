// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Double queries against a float cache would silently compute in float.
// EXPECT: queries, keys and outputs are all double, or none is
#include <gqa/gqa.hpp>

template <typename T>
using Tensor = Eigen::Tensor<T, 4, Eigen::RowMajor>;

#ifdef FIXED
using Query = float;
#else
using Query = double;
#endif

void decode(const Tensor<Query>& q, const gqa::KvCache<float>& cache, Tensor<Query>& out) {
  gqa::attend(q, cache, out, gqa::Causal{});
}
