// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// KvCache: the keys and values of one layer for a batch of sequences, each with a length of its own
// and room for `capacity` tokens. Kept in strips (layout/strips.hpp), so that attention reads it as
// it is; one KV head of one sequence is one contiguous stream.
#pragma once

#include <algorithm>
#include <span>
#include <stdexcept>
#include <vector>

#include "gqa/core/kv_source.hpp"
#include "gqa/core/view.hpp"
#include "gqa/core/workspace.hpp"
#include "gqa/layout/pack.hpp"

namespace gqa {

/// Only num_kv_heads decides its size: a cache of 8 KV heads is a quarter of one of 32.
///
/// Every operation happens in full or, when it throws, not at all: std::invalid_argument for
/// shapes, std::length_error for tokens beyond the capacity. Several threads may read at once;
/// writing needs the cache to oneself.
template <StorageType StorageT, typename HeadsT = Heads<>>
class KvCache {
 public:
  using Storage = StorageT;
  static constexpr KvLayout layout = KvLayout::strips;

  struct Options {
    Index batch = 1;     ///< sequences
    Index capacity = 0;  ///< tokens per sequence
    HeadsT heads = {};   ///< needed where HeadsT leaves numbers open
  };

  /// All memory is taken, and zeroed, here. Throws std::bad_alloc.
  explicit KvCache(const Options& options)
      : heads_(options.heads),
        capacity_(options.capacity),
        strips_(heads_.head_dim(), heads_.value_dim()) {
    require(options.batch > 0, "KvCache: batch must be positive, is ", options.batch);
    require(options.capacity >= 0, "KvCache: capacity must not be negative, is ", options.capacity);
    require(heads_.num_kv_heads() > 0 && heads_.head_dim() > 0 && heads_.value_dim() > 0,
            "KvCache: heads are not set: num_kv_heads ", heads_.num_kv_heads(), ", head_dim ",
            heads_.head_dim(), ", value_dim ", heads_.value_dim());
    lengths_.resize(static_cast<std::size_t>(options.batch), 0);
    buffer_ = AlignedBuffer(static_cast<std::size_t>(bytes()));
    std::fill_n(buffer_.data(), buffer_.bytes(), std::byte{0});
  }

  Index batch() const { return std::ssize(lengths_); }
  Index num_kv_heads() const { return heads_.num_kv_heads(); }
  Index head_dim() const { return heads_.head_dim(); }
  Index value_dim() const { return heads_.value_dim(); }
  const HeadsT& heads() const { return heads_; }
  Index capacity() const { return capacity_; }
  /// Tokens that a sequence holds.
  Index length(Index sequence) const { return lengths_[static_cast<std::size_t>(sequence)]; }

  /// Memory for keys and values, padding included.
  Index bytes() const { return batch() * num_kv_heads() * head_bytes(); }
  /// What one token of one sequence costs, padding excluded.
  Index bytes_per_token() const {
    return num_kv_heads() * strips_.token_bytes();
  }

  /// Appends tokens to every sequence: k [batch, tokens, num_kv_heads, head_dim] and
  /// v [batch, tokens, num_kv_heads, value_dim], of any Scalar type, rounded to Storage. `counts`,
  /// [batch], says how many of the tokens each sequence takes, where they differ.
  template <typename Key, typename Value>
  void append(const Key& k, const Value& v, std::span<const Index> counts = {}) {
    const auto keys = view(k);
    const auto values = view(v);
    check_tokens("append", keys.shape(), values.shape(), batch());
    require(counts.empty() || std::ssize(counts) == batch(),
            "KvCache::append: ", std::ssize(counts), " counts for a batch of ", batch());
    const auto count = [&](Index b) {
      return counts.empty() ? keys.tokens() : counts[static_cast<std::size_t>(b)];
    };
    for (Index b = 0; b < batch(); ++b) {
      require(count(b) >= 0 && count(b) <= keys.tokens(), "KvCache::append: a count of ", count(b),
              " is outside of [0, ", keys.tokens(), "]");
      check_room(b, count(b));
    }
    for (Index b = 0; b < batch(); ++b) write(b, keys, values, b, count(b));
  }

  /// Appends tokens to one sequence: k [1, tokens, num_kv_heads, head_dim], or of rank 3.
  template <typename Key, typename Value>
  void append(Index sequence, const Key& k, const Value& v) {
    check_sequence("append", sequence);
    const auto keys = view(k);
    const auto values = view(v);
    check_tokens("append", keys.shape(), values.shape(), 1);
    check_room(sequence, keys.tokens());
    write(sequence, keys, values, 0, keys.tokens());
  }

  /// Forgets all tokens of a sequence but the first `length`: an exact rollback.
  void truncate(Index sequence, Index length) {
    check_sequence("truncate", sequence);
    check_truncation(sequence, length);
    drop(sequence, length);
  }
  /// The same for every sequence.
  void truncate(Index length) {
    for (Index b = 0; b < batch(); ++b) check_truncation(b, length);
    for (Index b = 0; b < batch(); ++b) drop(b, length);
  }
  /// Forgets everything.
  void clear() { truncate(0); }
  void clear(Index sequence) { truncate(sequence, 0); }

  /// Copies the tokens of a sequence into row-major k [1, length, num_kv_heads, head_dim] and
  /// v [1, length, num_kv_heads, value_dim], converted to their type.
  template <typename Key, typename Value>
  void read(Index sequence, Key&& k, Value&& v) const {
    check_sequence("read", sequence);
    const auto keys = view(k);
    const auto values = view(v);
    check_tokens("read", keys.shape(), values.shape(), 1);
    require(keys.tokens() == length(sequence), "KvCache::read: sequence ", sequence, " holds ",
            length(sequence), " tokens, the tensors ", keys.tokens());
    for (Index h = 0; h < num_kv_heads(); ++h) {
      for (Index t = 0; t < keys.tokens(); ++t) {
        const Storage* place = block(sequence, h, t / block_keys);
        using K = typename std::remove_cvref_t<decltype(keys)>::Value;
        using V = typename std::remove_cvref_t<decltype(values)>::Value;
        get_token(strips_, place, t % block_keys, keys.row(0, t, h), static_cast<K*>(nullptr));
        get_token(strips_, place, t % block_keys, static_cast<V*>(nullptr), values.row(0, t, h));
      }
    }
  }

  /// See KvSource.
  template <typename F>
  void for_each_run(Index b, Index kv_head, Index begin, Index end, F&& fn) const {
    if (begin == end) return;
    const Storage* blocks = block(b, kv_head, begin / block_keys);
    // What follows, for prefetching: more of this head, or the next head of the buffer.
    const Index heads_behind = batch() * num_kv_heads() - (b * num_kv_heads() + kv_head) - 1;
    const Storage* next = end < length(b)    ? block(b, kv_head, ceil_div(end, block_keys))
                          : heads_behind > 0 ? block(b, kv_head + 1, 0)
                                             : nullptr;
    fn(StripRun{.blocks = reinterpret_cast<const std::byte*>(blocks),
                .first = begin,
                .count = end - begin,
                .next = reinterpret_cast<const std::byte*>(next)});
  }

 private:
  Index blocks_per_head() const { return ceil_div(capacity_, block_keys); }
  Index head_bytes() const { return blocks_per_head() * strips_.block_bytes(); }

  const Storage* block(Index b, Index kv_head, Index i) const {
    return reinterpret_cast<const Storage*>(
        buffer_.data() + (b * num_kv_heads() + kv_head) * head_bytes() + i * strips_.block_bytes());
  }
  Storage* block(Index b, Index kv_head, Index i) {
    return const_cast<Storage*>(std::as_const(*this).block(b, kv_head, i));
  }

  void check_sequence(const char* who, Index sequence) const {
    require(sequence >= 0 && sequence < batch(), "KvCache::", who, ": sequence ", sequence,
            " is outside of a batch of ", batch());
  }
  void check_tokens(const char* who, const TensorShape& k, const TensorShape& v,
                    Index batch) const {
    const TensorShape keys{batch, k.tokens, num_kv_heads(), head_dim()};
    const TensorShape values{batch, k.tokens, num_kv_heads(), value_dim()};
    require(k == keys, "KvCache::", who, ": keys are ", k, ", expected ", keys);
    require(v == values, "KvCache::", who, ": values are ", v, ", expected ", values);
  }
  void check_room(Index sequence, Index count) const {
    if (count > capacity_ - length(sequence)) {
      throw std::length_error(message("KvCache::append: ", count, " tokens on top of ",
                                      length(sequence), " exceed the capacity of ", capacity_,
                                      " (sequence ", sequence, ")"));
    }
  }
  void check_truncation(Index sequence, Index to) const {
    require(to >= 0 && to <= length(sequence), "KvCache::truncate: length ", to,
            " is outside of [0, ", length(sequence), "] (sequence ", sequence, ")");
  }

  template <typename Keys, typename Values>
  void write(Index sequence, const Keys& keys, const Values& values, Index from, Index count) {
    Index& length = lengths_[static_cast<std::size_t>(sequence)];
    for (Index h = 0; h < num_kv_heads(); ++h) {
      for (Index t = 0; t < count;) {  // block by block
        const Index at = length + t;
        const Index tokens = std::min(count - t, block_keys - at % block_keys);
        put_tokens(strips_, block(sequence, h, at / block_keys), at % block_keys, tokens,
                   keys.row(from, t, h), keys.strides().token, values.row(from, t, h),
                   values.strides().token);
        t += tokens;
      }
    }
    length += count;
  }

  /// Zeroes what it drops, so that nothing of it is seen again.
  void drop(Index sequence, Index to) {
    Index& length = lengths_[static_cast<std::size_t>(sequence)];
    for (Index h = 0; h < num_kv_heads(); ++h) {
      for (Index t = to; t < length;) {
        const Index end = std::min(length, (t / block_keys + 1) * block_keys);
        zero_tokens(strips_, block(sequence, h, t / block_keys), t % block_keys,
                    end - t / block_keys * block_keys);
        t = end;
      }
    }
    length = to;
  }

  HeadsT heads_;
  Index capacity_;
  StripLayout<Storage> strips_;
  std::vector<Index> lengths_;  // [batch]
  AlignedBuffer buffer_;        // [batch][num_kv_heads][blocks]
};
static_assert(KvSource<KvCache<float>>);

}  // namespace gqa
