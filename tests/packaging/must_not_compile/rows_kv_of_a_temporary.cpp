// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Keys and values must stay as long as the source that reads them.
// EXPECT: belong to a temporary
#include <gqa/gqa.hpp>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
Tensor load();

#ifdef FIXED
Tensor k = load(), v = load();
auto kv = gqa::rows_kv(k, v);
auto of_views = gqa::rows_kv(gqa::view(k), gqa::view(v));
#else
Tensor v = load();
auto kv = gqa::rows_kv(load(), v);
#endif
