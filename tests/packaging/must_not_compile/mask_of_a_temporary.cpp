// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Rules are kept from call to call, and their numbers must be there.
// EXPECT: belong to a temporary
#include <gqa/gqa.hpp>

using Bools = Eigen::Tensor<bool, 2, Eigen::RowMajor>;
Bools load_mask();

#ifdef FIXED
Bools loaded = load_mask();
auto rules = gqa::Causal{} & gqa::DenseMask{loaded};
auto map = gqa::DenseMask{Eigen::TensorMap<Bools>(loaded.data(), loaded.dimensions())};
#else
auto rules = gqa::Causal{} & gqa::DenseMask{load_mask()};
#endif
