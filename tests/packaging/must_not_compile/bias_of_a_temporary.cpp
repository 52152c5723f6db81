// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Rules are kept from call to call, and their numbers must be there.
// EXPECT: belong to a temporary
#include <gqa/gqa.hpp>

using Biases = Eigen::Tensor<float, 4, Eigen::RowMajor>;
Biases load_biases();

#ifdef FIXED
Biases loaded = load_biases();
auto rules = gqa::Causal{} & gqa::AdditiveBias{loaded};
#else
auto rules = gqa::Causal{} & gqa::AdditiveBias{load_biases()};
#endif
