// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// truncate(0) beside clear(0), of which the 0 is a sequence.
// EXPECT: truncate_all\(length\)
#include <gqa/gqa.hpp>

void forget(gqa::KvCache<float>& cache, gqa::KvCacheStack<gqa::RingKvCache<float>>& stack) {
#ifdef FIXED
  cache.truncate_all(0);
  cache.truncate(0, 0);
  stack.truncate_all(0);
#else
  cache.truncate(0);
  stack.truncate(0);
#endif
}
