// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// KvCache: the keys and values of one layer for a batch of sequences, each with a length of its own
// and room for `capacity` tokens. Kept in strips (layout/strips.hpp), so that attention reads it as
// it is; one KV head of one sequence is one contiguous stream. The operations that it shares with
// the other caches are in strip_cache.hpp.
#pragma once

#include "gqa/cache/strip_cache.hpp"
#include "gqa/core/aligned_buffer.hpp"

namespace gqa {

/// Only num_kv_heads decides its size: a cache of 8 KV heads is a quarter of one of 32.
///
/// Every operation happens in full or, when it throws, not at all: std::invalid_argument for
/// shapes, std::length_error for tokens beyond the capacity or what memory counts, std::bad_alloc.
/// Several threads may
/// read at once. Different sequences may be written at once, as long as the memory doesn't grow;
/// whatever concerns the whole batch needs the cache to itself.
template <StorageType StorageT, typename HeadsT = Heads<>>
class KvCache : public detail::StripCache<KvCache<StorageT, HeadsT>, StorageT, HeadsT> {
  using Base = detail::StripCache<KvCache, StorageT, HeadsT>;
  friend Base;
  friend detail::SavedCache;

 public:
  using typename Base::Storage;

  struct Options {
    Index batch = 1;     ///< sequences
    Index capacity = 0;  ///< tokens per sequence that memory is taken for at once
    HeadsT heads = {};   ///< needed where HeadsT leaves numbers open
    /// Where it is larger than capacity, memory doubles when needed, up to this many tokens per
    /// sequence. Growing copies everything, and takes both memories while it does.
    Index max_capacity = 0;
  };

  /// Takes the memory for `capacity` tokens and zeroes it. Throws std::bad_alloc, or
  /// std::length_error for sizes that no memory could have.
  GQA_TAG explicit KvCache(const Options& options)
      : Base("KvCache", options.batch, options.heads),
        tokens_(options.capacity),
        max_tokens_((std::max)(options.capacity, options.max_capacity)) {
    require(options.capacity >= 0, "KvCache: capacity must not be negative, is ", options.capacity);
    require(options.max_capacity >= 0, "KvCache: max_capacity must not be negative, is ",
            options.max_capacity);
    buffer_ = zeros(tokens_);
  }
  GQA_TAG KvCache(KvCache&&) noexcept = default;
  GQA_TAG KvCache& operator=(KvCache&&) noexcept = default;
  GQA_TAG ~KvCache() = default;

  /// Tokens per sequence that append accepts; see allocated() for those that there is memory for.
  GQA_TAG Index capacity() const { return max_tokens_; }
  GQA_TAG Index allocated() const { return tokens_; }
  /// Memory for keys and values, padding included.
  GQA_TAG Index bytes() const { return this->batch() * this->num_kv_heads() * head_bytes(); }

  /// A copy of everything. Throws std::bad_alloc.
  GQA_TAG KvCache clone() const {
    this->check_not_moved_from("clone");
    KvCache copy({.batch = this->batch(),
                  .capacity = tokens_,
                  .heads = this->heads(),
                  .max_capacity = max_tokens_});
    std::copy_n(buffer_.data(), buffer_.bytes(), copy.buffer_.data());
    copy.copy_sequences(*this);
    return copy;
  }

  /// See KvSource.
  template <typename F>
  GQA_TAG void for_each_run(Index b, Index kv_head, Index begin, Index end, F&& fn) const {
    if (begin == end) return;
    const auto at = [this](Index slot, Index h, Index i) {
      return reinterpret_cast<const std::byte*>(block(slot, h, i));
    };
    const Index slot = this->slot(b);
    // What follows, for prefetching: more of this head, or the next head.
    const std::byte* next = nullptr;
    if (end < this->length_of(slot)) {
      next = at(slot, kv_head, ceil_div(end, block_keys));
    } else if (kv_head + 1 < this->num_kv_heads()) {
      next = at(slot, kv_head + 1, 0);
    } else if (b + 1 < this->batch()) {
      next = at(this->slot(b + 1), 0, 0);
    }
    fn(StripRun{.blocks = at(slot, kv_head, begin / block_keys),
                .first = begin,
                .count = end - begin,
                .next = next});
  }

 private:
  static constexpr bool reuses_blocks = false;  // what is dropped is zeroed at once

  GQA_TAG Index head_bytes(Index tokens) const {
    return ceil_div(tokens, block_keys) * this->strips().block_bytes();
  }
  GQA_TAG Index head_bytes() const { return head_bytes(tokens_); }
  /// Memory for so many tokens of every sequence.
  GQA_TAG AlignedBuffer zeros(Index tokens) const {
    memory_bytes("KvCache", {this->batch(), this->num_kv_heads(), tokens / block_keys + 1,
                             this->strips().block_bytes()});
    AlignedBuffer buffer(
        static_cast<std::size_t>(this->batch() * this->num_kv_heads() * head_bytes(tokens)));
    std::fill_n(buffer.data(), buffer.bytes(), std::byte{0});
    return buffer;
  }
  GQA_TAG std::byte* head(Index slot, Index kv_head) const {
    return buffer_.data() + (slot * this->num_kv_heads() + kv_head) * head_bytes();
  }
  GQA_TAG const detail::Native<Storage>* block(Index slot, Index kv_head, Index i) const {
    return reinterpret_cast<const detail::Native<Storage>*>(head(slot, kv_head) +
                                                            i * this->strips().block_bytes());
  }
  /// Bytes of one head of a slot that hold tokens.
  GQA_TAG std::size_t used_bytes(Index slot) const {
    return static_cast<std::size_t>(ceil_div(this->length_of(slot), block_keys) *
                                    this->strips().block_bytes());
  }

  template <typename Count>
  GQA_TAG void make_room(const char* who, Index begin, Index end, Count count) {
    Index longest = 0;
    for (Index b = begin; b < end; ++b) {
      this->check_capacity(who, b, count(b), max_tokens_);
      longest = (std::max)(longest, this->length(b) + count(b));
    }
    if (longest > tokens_) grow((std::min)(max_tokens_, (std::max)(longest, 2 * tokens_)));
  }
  GQA_TAG void grow(Index tokens) {
    const AlignedBuffer old = std::exchange(buffer_, zeros(tokens));
    const Index old_head_bytes = head_bytes();
    tokens_ = tokens;
    for (Index slot = 0; slot < this->batch(); ++slot) {
      for (Index h = 0; h < this->num_kv_heads(); ++h) {
        std::copy_n(old.data() + (slot * this->num_kv_heads() + h) * old_head_bytes,
                    used_bytes(slot), head(slot, h));
      }
    }
  }

  GQA_TAG void begin_write(Index, Index) {}
  GQA_TAG void check_held(const char*, Index, Index, Index) const {}

  GQA_TAG void drop(Index begin, Index end, Index to) {
    for (Index b = begin; b < end; ++b) {
      const Index slot = this->slot(b);
      this->zero_behind(slot, to);
      zero_from(slot, ceil_div(to, block_keys));
      this->set_length(slot, to);
    }
  }
  /// Zeroes the used blocks of a slot from number `first` on.
  GQA_TAG void zero_from(Index slot, Index first) {
    const auto from = static_cast<std::size_t>(first * this->strips().block_bytes());
    const std::size_t used = used_bytes(slot);
    for (Index h = 0; from < used && h < this->num_kv_heads(); ++h) {
      std::fill(head(slot, h) + from, head(slot, h) + used, std::byte{0});
    }
  }
  GQA_TAG void copy_slot(Index from, Index to) {
    zero_from(to, ceil_div(this->length_of(from), block_keys));
    for (Index h = 0; h < this->num_kv_heads(); ++h) {
      std::copy_n(head(from, h), used_bytes(from), head(to, h));
    }
  }

  GQA_TAG detail::TokenRange gone(Index) const { return {}; }
  GQA_TAG bool can_skip(const detail::TokenRange&, Index) const { return false; }
  GQA_TAG void skip(Index, Index) {}
  GQA_TAG KvCache empty_like(Index batch) const {
    return KvCache(
        {.batch = batch, .capacity = tokens_, .heads = this->heads(), .max_capacity = max_tokens_});
  }
  GQA_TAG void prepare_take(Index sequence, const KvCache& other) {
    make_room("load", sequence, sequence + 1, [&](Index) {
      return (std::max)(other.length(0) - this->length(sequence), Index{0});
    });
  }
  GQA_TAG void take(Index sequence, const KvCache& other) {
    const Index slot = this->slot(sequence), length = other.length(0);
    zero_from(slot, ceil_div(length, block_keys));
    for (Index h = 0; h < this->num_kv_heads(); ++h) {
      std::copy_n(other.head(0, h), other.used_bytes(0), head(slot, h));
    }
    this->set_length(slot, length);
  }

  Index tokens_;
  Index max_tokens_;
  AlignedBuffer buffer_;  // [slots][num_kv_heads][blocks]
};
}  // namespace gqa
