// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// C++17: one sentence, not the hundreds of errors that concepts make there.
// FLAGS: -std=c++17
// FIXED_FLAGS: -std=c++20
// EXPECT: gqa needs C\+\+20: compile with -std=c\+\+20
// ERRORS: 2
#ifdef FIXED
#include <gqa/core/config.hpp>
#else
#include <gqa/gqa.hpp>
#endif
