// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Lengths must stay as long as the source that reads them, as its keys.
// EXPECT: belong to a temporary
#include <gqa/gqa.hpp>
#include <vector>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
Tensor k, v;
std::vector<gqa::Index> count();

#ifdef FIXED
std::vector<gqa::Index> counted = count();
auto kv = gqa::rows_kv(k, v, counted);
auto of_span = gqa::rows_kv(k, v, std::span(counted).first(1));
#else
auto kv = gqa::rows_kv(k, v, count());
#endif
