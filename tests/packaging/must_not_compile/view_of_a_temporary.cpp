// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The view would outlive its tensor. Maps and views own nothing: temporaries of theirs will do.
// EXPECT: belong to a temporary
#include <gqa/gqa.hpp>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
Tensor load();

#ifdef FIXED
Tensor loaded = load();
auto q = gqa::view(loaded);
auto map = gqa::view(Eigen::TensorMap<Tensor>(loaded.data(), loaded.dimensions()));
auto same = gqa::view(gqa::view(loaded));
#else
auto q = gqa::view(load());
#endif
