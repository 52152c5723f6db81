// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// AppendTransaction: the appends of one step, to all layers and all sequences, as one operation. A
// layer's keys follow from the attention of the layer before, so that the appends can't be
// collected and done at the end; instead, room for all of them is reserved first, and what has been
// appended is taken back unless the step commits.
#pragma once

#include <stdexcept>
#include <vector>

#include "gqa/cache/strip_cache.hpp"

namespace gqa {

/// gqa::AppendTransaction step;
/// for (auto& cache : layers) step.plan(cache, counts);   // throws: nothing has happened
/// … forward passes that append …                          // throws: step takes everything back
/// step.commit();
///
/// Each sequence of a cache is planned once. Until the end it is only appended to, at most as many
/// tokens as planned, and not forked; the caches must stay where they are. A transaction can be
/// used for step after step, and then allocates nothing.
class AppendTransaction {
 public:
  GQA_TAG AppendTransaction() = default;
  AppendTransaction(const AppendTransaction&) = delete;
  AppendTransaction& operator=(const AppendTransaction&) = delete;
  /// Takes everything back that has not been committed.
  GQA_TAG ~AppendTransaction() { roll_back(); }

  /// Reserves room for counts[b] tokens in each sequence b of a cache, counts [batch]. Throws as
  /// the cache's reserve(), std::length_error if the cache couldn't take the tokens back, and
  /// std::bad_alloc; the transaction and the cache are then as they were.
  template <KvStore Cache>
  GQA_TAG void plan(Cache& cache, std::span<const Index> counts) {
    for (Index b = 0; b < std::min(cache.batch(), std::ssize(counts)); ++b) {
      check_undo(cache, b, counts[static_cast<std::size_t>(b)]);
    }
    entries_.reserve(entries_.size() + counts.size());
    cache.reserve(counts);
    // From here on nothing fails.
    for (Index b = 0; b < cache.batch(); ++b) add(cache, b);
  }
  /// The same for one sequence.
  template <KvStore Cache>
  GQA_TAG void plan(Cache& cache, Index sequence, Index count) {
    check_undo(cache, sequence, count);
    entries_.reserve(entries_.size() + 1);
    cache.reserve(sequence, count);
    add(cache, sequence);
  }

  /// What has been appended stays; room that was reserved and not used goes back.
  GQA_TAG void commit() noexcept {
    for (const Entry& e : entries_) e.truncate(e.cache, e.sequence, -1);
    entries_.clear();
  }
  /// Every sequence becomes as long as it was when it was planned.
  GQA_TAG void roll_back() noexcept {
    for (const Entry& e : entries_) e.truncate(e.cache, e.sequence, e.length);
    entries_.clear();
  }
  /// Is there anything to commit or take back?
  GQA_TAG bool is_open() const { return !entries_.empty(); }

 private:
  struct Entry {
    void* cache;
    Index sequence;
    Index length;                           // before
    void (*truncate)(void*, Index, Index);  // length -1: where it is now
  };

  template <typename Cache>
  GQA_TAG static void check_undo(const Cache& cache, Index sequence, Index count) {
    if constexpr (requires { cache.can_undo(sequence, count); }) {
      if (!cache.can_undo(sequence, count)) {
        throw std::length_error(message("AppendTransaction: ", count,
                                        " tokens can't be taken back from sequence ", sequence,
                                        ", which has ", cache.length(sequence)));
      }
    }
  }
  template <typename Cache>
  GQA_TAG void add(Cache& cache, Index sequence) {
    entries_.push_back({.cache = &cache,
                        .sequence = sequence,
                        .length = cache.length(sequence),
                        .truncate = [](void* c, Index s, Index length) {
                          Cache& its = *static_cast<Cache*>(c);
                          its.truncate(s, length < 0 ? its.length(s) : length);
                        }});
  }
  std::vector<Entry> entries_;
};

}  // namespace gqa
