// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Without exceptions: one sentence, not an error for each `throw`.
// FLAGS: -fno-exceptions
// FIXED_FLAGS: -fexceptions -fno-rtti
// EXPECT: gqa reports errors as exceptions: compile without -fno-exceptions
// ERRORS: 2
#include <gqa/gqa.hpp>
