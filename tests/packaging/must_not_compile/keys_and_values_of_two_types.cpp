// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Keys in float, values in half: one type for both.
// EXPECT: keys and values must be of one type
#include <gqa/gqa.hpp>

template <typename T>
using Tensor = Eigen::Tensor<T, 4, Eigen::RowMajor>;

#ifdef FIXED
using Value = float;
#else
using Value = gqa::half;
#endif

void prefill(const Tensor<float>& q, const Tensor<float>& k, const Tensor<Value>& v,
             Tensor<float>& out) {
  gqa::attend(q, k, v, out, gqa::Causal{});
}
