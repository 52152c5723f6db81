// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// int is no storage type of a cache.
// EXPECT: error
#include <gqa/gqa.hpp>

#ifdef FIXED
gqa::KvCache<gqa::half>* cache = nullptr;
using Check = decltype(*cache);
#else
gqa::KvCache<int>* cache = nullptr;
using Check = decltype(cache->length(0));
#endif
