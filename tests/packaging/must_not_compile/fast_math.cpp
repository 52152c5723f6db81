// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// -ffast-math implies -ffinite-math-only; without that part, results are right (../math_flags).
// FLAGS: -ffast-math
// FIXED_FLAGS: -fno-finite-math-only
// EXPECT: gqa needs infinities
#include <gqa/core/config.hpp>
