// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A matrix doesn't say where its heads are.
// EXPECT: rank 4, \[batch, tokens, heads, dim\], or rank 3
#include <gqa/gqa.hpp>

#ifdef FIXED
using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
#else
using Tensor = Eigen::Tensor<float, 2, Eigen::RowMajor>;
#endif

auto view_of(Tensor& tensor) { return gqa::view(tensor); }
