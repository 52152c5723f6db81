// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// KvCacheStack: the caches of all layers of a model as one object, which an engine creates once.
// What happens to a sequence happens in all layers or, when it throws, in none. What it will take
// is in kv_memory.hpp. A model whose layers differ, as in their windows, has a stack for each kind.
#pragma once

#include <memory>
#include <vector>

#include "gqa/cache/transaction.hpp"

namespace gqa {

class PageAllocator;

/// Layers of one type of cache. A step appends to its layers one by one, from within the forward
/// pass:
///
///     AppendTransaction step;
///     stack.plan_append(step, counts);     // room in all layers, or it throws
///     attention.forward(x, y, &stack[i]);  // layer by layer; what throws takes everything back
///     step.commit();
///
/// Between steps all layers have the same lengths, and length(b) is a sequence's. A stack that was
/// moved from has no layers and no sequences, as a cache has then (StripCache): batch() and bytes()
/// are 0, truncate_all() and clear() do nothing, everything else throws std::invalid_argument.
template <KvStore CacheT>
class KvCacheStack {
 public:
  using Cache = CacheT;
  using Options = typename Cache::Options;

  /// Each layer as `options` say. Throws what a cache's constructor throws.
  GQA_TAG KvCacheStack(Index num_layers, const Options& options)
    requires std::constructible_from<Cache, const Options&>
  {
    reserve_layers(num_layers);
    for (Index i = 0; i < num_layers; ++i) layers_.emplace_back(options);
  }
  /// Paged layers that share the pages of one allocator.
  GQA_TAG KvCacheStack(Index num_layers, std::shared_ptr<PageAllocator> allocator,
                       const Options& options)
    requires std::constructible_from<Cache, std::shared_ptr<PageAllocator>, const Options&>
  {
    reserve_layers(num_layers);
    for (Index i = 0; i < num_layers; ++i) layers_.emplace_back(allocator, options);
  }
  GQA_TAG KvCacheStack(KvCacheStack&&) noexcept = default;
  GQA_TAG KvCacheStack& operator=(KvCacheStack&&) noexcept = default;
  GQA_TAG ~KvCacheStack() = default;

  GQA_TAG Index num_layers() const { return std::ssize(layers_); }
  GQA_TAG Cache& operator[](Index layer) { return layers_[checked(layer)]; }
  GQA_TAG const Cache& operator[](Index layer) const { return layers_[checked(layer)]; }
  GQA_TAG auto begin() { return layers_.begin(); }
  GQA_TAG auto end() { return layers_.end(); }
  GQA_TAG auto begin() const { return layers_.begin(); }
  GQA_TAG auto end() const { return layers_.end(); }

  GQA_TAG Index batch() const { return layers_.empty() ? 0 : layers_.front().batch(); }
  GQA_TAG Index length(Index sequence) const { return layers("length").front().length(sequence); }
  GQA_TAG Index capacity() const { return layers("capacity").front().capacity(); }
  /// Of all layers together.
  GQA_TAG Index bytes() const {
    return sum([](const Cache& cache) { return cache.bytes(); });
  }
  GQA_TAG Index bytes_per_token() const {
    return sum([](const Cache& cache) { return cache.bytes_per_token(); });
  }

  /// Reserves room in every layer for counts[b] tokens of each sequence b, counts [batch], as
  /// AppendTransaction::plan() does for one cache. When it throws, what was reserved goes back with
  /// the transaction.
  GQA_TAG void plan_append(AppendTransaction& step, std::span<const Index> counts) {
    for (Cache& cache : layers("plan_append")) step.plan(cache, counts);
  }
  /// The same for one sequence.
  GQA_TAG void plan_append(AppendTransaction& step, Index sequence, Index count) {
    for (Cache& cache : layers("plan_append")) step.plan(cache, sequence, count);
  }

  /// Forgets all tokens of a sequence but the first `length`, in every layer. Throws as the cache's
  /// truncate().
  GQA_TAG void truncate(Index sequence, Index length) {
    for (Cache& cache : layers("truncate")) prepare_truncate(cache, sequence, length);
    for (Cache& cache : layers_) cache.truncate(sequence, length);
  }
  /// The same for every sequence.
  GQA_TAG void truncate_all(Index length) {
    for (Cache& cache : layers_) {
      for (Index b = 0; b < batch(); ++b) prepare_truncate(cache, b, length);
    }
    for (Cache& cache : layers_) cache.truncate_all(length);
  }
  template <typename Length>
  GQA_TAG void truncate(Length) {
    detail::refuse_truncate_of_all<Length>();
  }
  /// Forgets everything, of all sequences or of one.
  GQA_TAG void clear() { truncate_all(0); }
  GQA_TAG void clear(Index sequence) { truncate(sequence, 0); }

  /// Makes sequence `to` equal to sequence `from`.
  GQA_TAG void fork(Index from, Index to) {
    for (Cache& cache : layers("fork")) cache.fork(from, to);
  }
  /// Makes each sequence b what sequence from[b] was; from is [batch].
  GQA_TAG void reorder(std::span<const Index> from) {
    for (Cache& cache : layers("reorder")) cache.reorder(from);
  }
  /// A copy of everything. Throws std::bad_alloc.
  GQA_TAG KvCacheStack clone() const {
    UniqueVector<Cache> copies;
    copies.reserve(layers_.size());
    for (const Cache& cache : layers("clone")) copies.push_back(cache.clone());
    return KvCacheStack(std::move(copies));
  }

  /// The first `length` tokens of a sequence in all layers, for sequences to come
  /// (PagedKvCache::Prefix).
  GQA_TAG auto share_prefix(Index sequence, Index length) const
    requires requires(const Cache& cache) { cache.share_prefix(sequence, length); }
  {
    std::vector<typename Cache::Prefix> prefix;
    prefix.reserve(layers_.size());
    for (const Cache& cache : layers("share_prefix"))
      prefix.push_back(cache.share_prefix(sequence, length));
    return prefix;
  }
  /// Makes a sequence begin with a prefix of this stack, or of one with the same allocator.
  template <typename Prefix>
  GQA_TAG void start_with(Index sequence, const std::vector<Prefix>& prefix)
    requires requires(Cache& cache) { cache.start_with(sequence, prefix.front()); }
  {
    require(std::ssize(prefix) == std::ssize(layers("start_with")),
            "KvCacheStack::start_with: a prefix of ", std::ssize(prefix), " layers for ",
            num_layers());
    for (std::size_t i = 0; i < layers_.size(); ++i) layers_[i].check_start(sequence, prefix[i]);
    for (std::size_t i = 0; i < layers_.size(); ++i) layers_[i].start_with(sequence, prefix[i]);
  }

 private:
  GQA_TAG explicit KvCacheStack(UniqueVector<Cache>&& layers) : layers_(std::move(layers)) {}

  GQA_TAG const UniqueVector<Cache>& layers(const char* who) const {
    require(!layers_.empty(), "KvCacheStack::", who, ": the stack was moved from");
    return layers_;
  }
  GQA_TAG UniqueVector<Cache>& layers(const char* who) {
    (void)std::as_const(*this).layers(who);
    return layers_;
  }

  GQA_TAG void reserve_layers(Index num_layers) {
    require(num_layers > 0, "KvCacheStack: num_layers must be positive, is ", num_layers);
    layers_.reserve(static_cast<std::size_t>(num_layers));
  }
  GQA_TAG std::size_t checked(Index layer) const {
    require(layer >= 0 && layer < num_layers(), "KvCacheStack: layer ", layer, " is outside of ",
            num_layers(), " layers");
    return static_cast<std::size_t>(layer);
  }
  template <typename F>
  GQA_TAG Index sum(F bytes) const {
    Index total = 0;
    for (const Cache& cache : layers_) total += bytes(cache);
    return total;
  }
  /// Whatever can fail in truncate() does here, and changes nothing that can be seen.
  GQA_TAG static void prepare_truncate(Cache& cache, Index sequence, Index length) {
    if constexpr (requires { cache.prepare_truncate(sequence, length); }) {
      cache.prepare_truncate(sequence, length);
    } else {
      const Index now = cache.length(sequence);
      bool fine = length >= 0 && length <= now;
      if constexpr (requires { cache.can_rollback(sequence, length); }) {
        fine = fine && cache.can_rollback(sequence, now - length);
      }
      if (!fine) cache.truncate(sequence, length);  // throws
    }
  }

  UniqueVector<Cache> layers_;
};

}  // namespace gqa
