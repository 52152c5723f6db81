// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Works over the caches that engines keep: pages in any order, a ring that has wrapped, sequences
// with a common prefix, and the appending of a token.
#pragma once

#include <numeric>

#include "support/work.hpp"

namespace gqa::bench {

/// A page allocator whose free pages are in random order, as after hours of use.
template <typename Storage>
std::shared_ptr<PageAllocator> shuffled_pages(const Heads<>& heads, Index pages,
                                              Index page_tokens = block_keys) {
  const auto allocator = std::make_shared<PageAllocator>(PageAllocator::Options{
      .pages = pages, .page_bytes = PagedKvCache<Storage>::page_bytes(heads, page_tokens)});
  PagedKvCache<Storage> users(
      allocator,
      {.batch = pages, .capacity = page_tokens, .page_tokens = page_tokens, .heads = heads});
  const Tensor token = Tensor(1, 1, heads.num_kv_heads(), heads.head_dim()).setZero();
  for (Index i = 0; i < pages; ++i) users.append(i, token, token);
  std::vector<Index> order(static_cast<std::size_t>(pages));
  std::iota(order.begin(), order.end(), Index{0});
  Random random(3);
  for (std::size_t i = order.size(); i > 1; --i) {
    const double uniform = (static_cast<double>(random()) / 1.7320508 + 1) / 2;
    std::swap(order[i - 1], order[static_cast<std::size_t>(uniform * static_cast<double>(i))]);
  }
  for (const Index i : order) users.clear(i);
  return allocator;
}

/// The work of a case whose Case::cache is set; null for a name or dtype that there isn't.
std::unique_ptr<Work> make_cache_work(const Case& c);

}  // namespace gqa::bench
