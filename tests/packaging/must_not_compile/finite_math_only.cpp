// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Hidden scores are -inf, so a compiler that may assume finite numbers is refused; whoever takes
// the risk says so.
// FLAGS: -ffinite-math-only
// FIXED_FLAGS: -DGQA_ALLOW_FINITE_MATH_ONLY
// EXPECT: gqa needs infinities.*-ffast-math.*GQA_ALLOW_FINITE_MATH_ONLY
#include <gqa/core/config.hpp>
