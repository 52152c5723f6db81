// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// As view(): what the backward pass reads must be there.
// EXPECT: belong to a temporary
#include <gqa/gqa.hpp>

using Lse = Eigen::Tensor<float, 3, Eigen::RowMajor>;
const Lse load();

#ifdef FIXED
const Lse loaded = load();
auto lse = gqa::LseView<const float>(loaded);
#else
auto lse = gqa::LseView<const float>(load());
#endif
