// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Six KV heads cannot share 32 query heads evenly.
// EXPECT: NumKvHeads must divide NumHeads
#include <gqa/gqa.hpp>

#ifdef FIXED
gqa::Heads<32, 8, 128> heads;
#else
gqa::Heads<32, 6, 128> heads;
#endif
