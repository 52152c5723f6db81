// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// int is no storage type of a cache: the error names the concept.
// EXPECT: constraint
// EXPECT: StorageType
#include <gqa/gqa.hpp>

#ifdef FIXED
gqa::KvCache<gqa::half>* cache = nullptr;
#else
gqa::KvCache<int>* cache = nullptr;
#endif
