// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// AppendTransaction: the appends of one step, to all layers and all sequences, as one operation. A
// layer's keys follow from the attention of the layer before, so that the appends can't be
// collected and done at the end; instead, room for all of them is reserved first, and what has been
// appended is taken back unless the step commits.
#pragma once

#include <exception>
#include <stdexcept>

#include "gqa/cache/strip_cache.hpp"

namespace gqa {

/// gqa::AppendTransaction step;
/// for (auto& cache : layers) step.plan(cache, counts);   // throws: nothing has happened
/// … forward passes that append …                          // throws: step takes everything back
/// step.commit();
///
/// Each sequence of a cache is planned once. Until the end it is only appended to, at most as many
/// tokens as planned, and not forked; the caches must stay where they are. Of transactions over the
/// same sequences, the last one that was planned ends first. A transaction can be used for step
/// after step, and then allocates nothing; it can't be moved.
class AppendTransaction {
 public:
  GQA_TAG AppendTransaction() = default;
  AppendTransaction(const AppendTransaction&) = delete;
  AppendTransaction& operator=(const AppendTransaction&) = delete;
  /// Takes everything back that has not been committed. Where roll_back() would throw, the program
  /// ends with its message.
  GQA_TAG ~AppendTransaction() { close(Outcome::back); }

  /// Reserves room for counts[b] tokens in each sequence b of a cache, counts [batch]. Throws as
  /// the cache's reserve(), std::length_error if the cache couldn't take the tokens back, and
  /// std::bad_alloc; the transaction and the cache are then as they were.
  template <KvStore Cache>
  GQA_TAG void plan(Cache& cache, std::span<const Index> counts) {
    for (Index b = 0; b < std::ssize(counts); ++b) {
      check_undo(cache, b, counts[static_cast<std::size_t>(b)]);
    }
    entries_.reserve(entries_.size() + counts.size());
    cache.reserve(counts);
    // From here on nothing fails.
    for (Index b = 0; b < cache.batch(); ++b) add(cache, b, counts[static_cast<std::size_t>(b)]);
  }
  /// The same for one sequence.
  template <KvStore Cache>
  GQA_TAG void plan(Cache& cache, Index sequence, Index count) {
    check_undo(cache, sequence, count);
    entries_.reserve(entries_.size() + 1);
    cache.reserve(sequence, count);
    add(cache, sequence, count);
  }

  /// What has been appended stays; room that was reserved and not used goes back. Fails only where
  /// a sequence was misused since it was planned (it isn't there any more, or is shorter): then
  /// throws std::logic_error that says so, the others are committed, and the transaction is closed.
  GQA_TAG void commit() { close(Outcome::stays); }
  /// Every sequence becomes as long as it was when it was planned. Fails as commit(), and where
  /// more tokens than planned were appended.
  GQA_TAG void roll_back() { close(Outcome::back); }
  /// Is there anything to commit or take back?
  GQA_TAG bool is_open() const { return !entries_.empty(); }

 private:
  enum class Outcome { stays, back };
  struct Entry {
    void* cache;
    Index sequence;
    Index length;                          // before
    Index count;                           // planned
    void (*close)(const Entry&, Outcome);  // throws std::logic_error
  };

  /// Arguments that reserve() refuses are left to it.
  template <typename Cache>
  GQA_TAG static void check_undo(const Cache& cache, Index sequence, Index count) {
    if constexpr (requires { cache.can_undo(sequence, count); }) {
      if (sequence < 0 || sequence >= cache.batch() || count < 0) return;
      if (!cache.can_undo(sequence, count)) {
        detail::throw_length_error({"AppendTransaction: ", count,
                                    " tokens can't be taken back from sequence ", sequence,
                                    ", which has ", cache.length(sequence)});
      }
    }
  }
  template <typename Cache>
  GQA_TAG void add(Cache& cache, Index sequence, Index count) {
    entries_.push_back({.cache = &cache,
                        .sequence = sequence,
                        .length = cache.length(sequence),
                        .count = count,
                        .close = close_one<Cache>});
  }

  /// Ends all entries, the last one first, even where some were misused.
  GQA_TAG void close(Outcome outcome) {
    std::exception_ptr misuse;
    for (; !entries_.empty(); entries_.pop_back()) {
      try {
        entries_.back().close(entries_.back(), outcome);
      } catch (...) {
        if (!misuse) misuse = std::current_exception();
      }
    }
    if (misuse) std::rethrow_exception(misuse);
  }
  template <typename Cache>
  GQA_TAG static void close_one(const Entry& e, Outcome outcome) {
    Cache& cache = *static_cast<Cache*>(e.cache);
    const auto misused = [&](const auto&... what) {
      throw std::logic_error(message("AppendTransaction: sequence ", e.sequence, ", planned for ",
                                     e.count, " tokens on top of ", e.length, ", ", what...));
    };
    if (e.sequence >= cache.batch()) {
      misused("is gone: its cache was moved or loaded meanwhile, and has a batch of ",
              cache.batch());
    }
    const Index length = cache.length(e.sequence);
    if (length < e.length) {
      misused("has ", length,
              ": it was truncated, loaded or moved meanwhile, or an earlier "
              "transaction was rolled back before this one");
    }
    if (outcome == Outcome::back && length - e.length > e.count) {
      misused("has ", length,
              ": more was appended than planned, it was loaded meanwhile, or a "
              "later transaction is still open");
    }
    try {
      cache.truncate(e.sequence, outcome == Outcome::back ? e.length : length);
    } catch (const std::exception& error) {
      misused("can't be taken back (", error.what(), "): it was forked meanwhile");
    }
  }

  UniqueVector<Entry> entries_;
};

}  // namespace gqa
