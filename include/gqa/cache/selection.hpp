// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// SelectedKv: some sequences of a cache, in any order, as a batch. An engine that batches
// continuously keeps more sequences than it computes in one step: it selects those with work to do,
// and attends or runs a layer's forward() with as many queries as there are.
#pragma once

#include "gqa/cache/strip_cache.hpp"

namespace gqa {

/// Sequence i of the selection is sequence indices[i] of the cache, which may be const. Owns
/// nothing.
template <typename Cache>
  requires KvSource<std::remove_const_t<Cache>>
class SelectedKv {
 public:
  using Storage = typename Cache::Storage;
  static constexpr KvLayout layout = Cache::layout;

  /// Throws std::invalid_argument for an index outside of the cache's batch.
  GQA_TAG SelectedKv(Cache& cache, const Borrowed<const Index>& indices)
      : cache_(cache), indices_(indices) {
    for (const Index b : indices) {
      require(b >= 0 && b < cache.batch(), "SelectedKv: sequence ", b, " is outside of a batch of ",
              cache.batch());
    }
  }

  GQA_TAG Index batch() const { return std::ssize(indices_); }
  GQA_TAG Index num_kv_heads() const { return cache_.num_kv_heads(); }
  GQA_TAG Index head_dim() const { return cache_.head_dim(); }
  GQA_TAG Index value_dim() const { return cache_.value_dim(); }
  GQA_TAG Index length(Index i) const {
    check_sequence("length", i);
    return cache_.length(index(i));
  }
  GQA_TAG Index first_position(Index i) const { return gqa::first_position(cache_, index(i)); }
  GQA_TAG Index next_held(Index i, Index key) const {
    return gqa::next_held(cache_, index(i), key);
  }
  GQA_TAG Index next_dropped(Index i, Index key) const {
    return gqa::next_dropped(cache_, index(i), key);
  }
  GQA_TAG Index oldest_query(Index i) const { return gqa::oldest_query(cache_, index(i)); }
  template <typename F>
  GQA_TAG void for_each_run(Index i, Index kv_head, Index begin, Index end, F&& fn) const {
    cache_.for_each_run(index(i), kv_head, begin, end, std::forward<F>(fn));
  }

  /// Appends to the selected sequences, which must differ, as the cache's append(k, v, counts) does
  /// to all of them: k [batch(), tokens, num_kv_heads, head_dim] …; for all of them, or for none.
  template <typename Key, typename Value>
  GQA_TAG void append(const Key& k, const Value& v, std::span<const Index> counts = {})
    requires KvStore<Cache>
  {
    const auto keys = view(k);
    const auto values = view(v);
    const TensorShape expected_keys{batch(), keys.tokens(), num_kv_heads(), head_dim()};
    const TensorShape expected_values{batch(), keys.tokens(), num_kv_heads(), value_dim()};
    require(keys.shape() == expected_keys, "SelectedKv::append: keys are ", keys.shape(),
            ", expected ", expected_keys);
    require(values.shape() == expected_values, "SelectedKv::append: values are ", values.shape(),
            ", expected ", expected_values);
    require(counts.empty() || std::ssize(counts) == batch(),
            "SelectedKv::append: ", std::ssize(counts), " counts for a batch of ", batch());
    for (const Index n : counts) {
      require(n >= 0 && n <= keys.tokens(), "SelectedKv::append: a count of ", n,
              " is outside of [0, ", keys.tokens(), "]");
    }
    for (Index i = 0; i < batch(); ++i) {
      for (Index j = 0; j < i; ++j) {
        require(index(i) != index(j), "SelectedKv::append: sequence ", index(i),
                " is selected twice");
      }
    }
    const auto count = [&](Index i) {
      return counts.empty() ? keys.tokens() : counts[static_cast<std::size_t>(i)];
    };
    Index reserved = 0;
    try {
      for (; reserved < batch(); ++reserved) cache_.reserve(index(reserved), count(reserved));
    } catch (...) {
      // A sequence that keeps its length gives back what it has reserved.
      while (reserved-- > 0) cache_.truncate(index(reserved), length(reserved));
      throw;
    }
    for (Index i = 0; i < batch(); ++i) {
      cache_.append(index(i), keys.sequence(i).tokens_slice(0, count(i)),
                    values.sequence(i).tokens_slice(0, count(i)));
    }
  }
  GQA_TAG void truncate(Index i, Index length)
    requires KvStore<Cache>
  {
    check_sequence("truncate", i);
    cache_.truncate(index(i), length);
  }

 private:
  GQA_TAG void check_sequence(const char* who, Index i) const {
    require(i >= 0 && i < batch(), "SelectedKv::", who, ": sequence ", i,
            " is outside of a batch of ", batch());
  }
  GQA_TAG Index index(Index i) const { return indices_[static_cast<std::size_t>(i)]; }

  Cache& cache_;
  std::span<const Index> indices_;
};

/// The sequences `indices` of a cache, which must both stay.
template <typename Cache>
GQA_TAG SelectedKv<Cache> select(Cache& cache, const Borrowed<const Index>& indices) {
  return {cache, indices};
}

}  // namespace gqa
