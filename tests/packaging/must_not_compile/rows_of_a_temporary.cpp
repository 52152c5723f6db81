// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// As view(), of matrices too: only what owns nothing may be a temporary.
// EXPECT: belong to a temporary
#include <gqa/gqa.hpp>

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
Matrix load();

#ifdef FIXED
Matrix loaded = load();
auto x = gqa::rows_of(loaded);
auto first = gqa::rows_of(loaded.topRows(1));
auto map = gqa::rows_of(Eigen::Map<Matrix>(loaded.data(), 1, 3));
#else
auto x = gqa::rows_of(load());
#endif
