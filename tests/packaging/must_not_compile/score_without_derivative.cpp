// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A gradient can't pass through a function whose derivative nobody knows.
// EXPECT: a score rule has no derivative
#include <gqa/gqa.hpp>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;

#ifdef FIXED
const auto rule = gqa::score_function([](auto x, const gqa::Where&) { return x * x; },
                                      [](auto x, const gqa::Where&) { return x + x; });
#else
const auto rule = gqa::score_function([](auto x, const gqa::Where&) { return x * x; });
#endif

void gradient(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& out,
              const Eigen::Tensor<float, 3, Eigen::RowMajor>& lse, Tensor& dq, Tensor& dk,
              Tensor& dv) {
  gqa::attend_backward(dout, q, k, k, out, lse, dq, dk, dv, gqa::Causal{} & rule);
}
