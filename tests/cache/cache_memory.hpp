// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#pragma once

#include <cstring>
#include <vector>

#include "gqa/cache/contiguous.hpp"

namespace gqa::test {

/// All bytes of a cache, the unused and the padding included, and its lengths: equal states show
/// that nothing changed, not even where nobody looks yet.
struct CacheMemory {
  std::vector<std::byte> bytes;
  std::vector<Index> lengths;

  template <typename Storage, typename HeadsT>
  explicit CacheMemory(const KvCache<Storage, HeadsT>& cache) {
    cache.for_each_run(0, 0, 0, 1, [&](const StripRun& run) {
      bytes.assign(run.blocks, run.blocks + cache.bytes());
    });
    for (Index b = 0; b < cache.batch(); ++b) lengths.push_back(cache.length(b));
  }
  friend bool operator==(const CacheMemory&, const CacheMemory&) = default;
};

}  // namespace gqa::test
