// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// As view(): only what owns nothing may be a temporary.
// EXPECT: belong to a temporary
#include <gqa/gqa.hpp>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
Tensor load();

#ifdef FIXED
Tensor loaded = load();
auto q = gqa::heads_first(loaded);
auto map = gqa::heads_first(Eigen::TensorMap<Tensor>(loaded.data(), loaded.dimensions()));
#else
auto q = gqa::heads_first(load());
#endif
