// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// No KV heads at all: 0 is not Dynamic.
// EXPECT: NumKvHeads must be positive
#include <gqa/gqa.hpp>

#ifdef FIXED
gqa::Heads<32, gqa::Dynamic, 128> heads;
#else
gqa::Heads<32, 0, 128> heads;
#endif
