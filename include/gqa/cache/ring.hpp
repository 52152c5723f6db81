// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// RingKvCache: sequences without an end in memory that doesn't grow, for layers with a sliding
// window (Mistral, Gemma, gpt-oss), with the first tokens kept where they serve as attention sinks
// (Xiao et al. 2023, arXiv 2309.17453). Keys stay in the blocks of 64 that they would be in anyway,
// and a block is overwritten as a whole: what the kernels see has the bits of a KvCache under the
// same mask.
//
//   blocks of 64 tokens   | first ones, kept | ring: block i is in place i mod ring |
#pragma once

#include "gqa/cache/strip_cache.hpp"
#include "gqa/core/aligned_buffer.hpp"

namespace gqa {

/// Attend with the mask that the memory was made for: Causal{} & SlidingWindow::from_hf(window),
/// and KeepFirst{keep_first}. Every front door refuses a mask that shows a query tokens that are
/// gone, as Causal{} alone does once there are any; and a query of which the cache can't tell, as
/// the first of too many query tokens, whose window begins with tokens that are gone.
///
/// Every operation happens in full or, when it throws, not at all: std::invalid_argument for
/// shapes, std::length_error for too many tokens at once and for rollbacks beyond what is held,
/// std::bad_alloc. Several threads may read at once, and different sequences may be written at
/// once; whatever concerns the whole batch needs the cache to itself.
template <StorageType StorageT, typename HeadsT = Heads<>>
class RingKvCache : public detail::StripCache<RingKvCache<StorageT, HeadsT>, StorageT, HeadsT> {
  using Base = detail::StripCache<RingKvCache, StorageT, HeadsT>;
  friend Base;
  friend detail::SavedCache;

 public:
  using typename Base::Storage;

  struct Options {
    Index batch = 1;   ///< sequences
    Index window = 0;  ///< keys that a query sees, itself included (Hugging Face's sliding_window)
    Index keep_first = 0;  ///< tokens at the start that are never forgotten
    /// Tokens held besides these. So many may be appended at once and attended with at once (each
    /// query of a prefill chunk needs the window before itself), and so many can be taken back at
    /// any time.
    Index spare = 512;
    HeadsT heads = {};  ///< needed where HeadsT leaves numbers open
  };

  /// All memory is taken, and zeroed, here. Throws std::bad_alloc, or std::length_error for sizes
  /// that no memory could have.
  GQA_TAG explicit RingKvCache(const Options& options)
      : Base("RingKvCache", options.batch, options.heads), options_(options) {
    require(options.window > 0, "RingKvCache: window must be positive, is ", options.window);
    require(options.keep_first >= 0, "RingKvCache: keep_first must not be negative, is ",
            options.keep_first);
    require(options.spare > 0, "RingKvCache: spare must be positive, is ", options.spare);
    memory_bytes("RingKvCache", {options.batch, this->num_kv_heads(),
                                 options.window / block_keys + options.spare / block_keys +
                                     options.keep_first / block_keys + 4,
                                 this->strips().block_bytes()});
    kept_blocks_ = ceil_div(options.keep_first, block_keys);
    // A stretch of `held` tokens that begins with the last token of a block touches this many.
    ring_blocks_ = ceil_div(held() - 1, block_keys) + 1;
    oldest_.resize(Base::at(options.batch));
    for (Index& oldest : oldest_) oldest = kept_blocks_;
    buffer_ = AlignedBuffer(static_cast<std::size_t>(bytes()));
    std::fill_n(buffer_.data(), buffer_.bytes(), std::byte{0});
  }
  GQA_TAG RingKvCache(RingKvCache&&) noexcept = default;
  GQA_TAG RingKvCache& operator=(RingKvCache&&) noexcept = default;
  GQA_TAG ~RingKvCache() = default;

  GQA_TAG const Options& options() const { return options_; }
  /// A sequence may go on for ever.
  GQA_TAG Index capacity() const { return (std::numeric_limits<Index>::max)(); }
  /// The last tokens of a sequence that are always there, besides the first keep_first ones.
  GQA_TAG Index held() const { return options_.window + options_.spare; }
  /// Does the cache still have this token of a sequence?
  GQA_TAG bool holds(Index sequence, Index token) const {
    return token >= 0 && token < this->length(sequence) &&
           (token < kept_tokens() || token >= first_in_ring(this->slot(sequence)));
  }
  /// Would truncate(sequence, length - count) be exact? It is for up to options().spare tokens
  /// below the largest length so far, and often for more.
  GQA_TAG bool can_rollback(Index sequence, Index count) const {
    return count >= 0 && count <= this->length(sequence) &&
           can_go_back(oldest_[Base::at(this->slot(sequence))], this->length(sequence) - count);
  }
  /// Would an append of `count` tokens to a sequence be taken back exactly by truncate()?
  GQA_TAG bool can_undo(Index sequence, Index count) const {
    const Index length = this->length(sequence);
    return count >= 0 && count <= most_tokens - length &&
           can_go_back(oldest_after(this->slot(sequence), length + count), length);
  }
  /// Memory for keys and values, padding included.
  GQA_TAG Index bytes() const { return this->batch() * slot_bytes(); }

  /// A copy of everything. Throws std::bad_alloc.
  GQA_TAG RingKvCache clone() const {
    this->check_not_moved_from("clone");
    Options options = options_;
    options.heads = this->heads();
    RingKvCache copy(options);
    std::copy_n(buffer_.data(), buffer_.bytes(), copy.buffer_.data());
    std::copy(oldest_.begin(), oldest_.end(), copy.oldest_.begin());
    copy.copy_sequences(*this);
    return copy;
  }

  /// See KvSource.
  GQA_TAG Index next_held(Index b, Index key) const {
    return key < kept_tokens() ? key : (std::max)(key, first_in_ring(this->slot(b)));
  }
  GQA_TAG Index next_dropped(Index b, Index key) const {
    const Index ring = first_in_ring(this->slot(b)), dropped = (std::max)(key, kept_tokens());
    return dropped < ring ? (std::min)(dropped, this->length(b)) : this->length(b);
  }
  GQA_TAG Index oldest_query(Index b) const {
    const Index ring = first_in_ring(this->slot(b));
    return ring <= kept_tokens() ? (std::numeric_limits<Index>::min)() : ring + options_.window - 1;
  }
  /// See KvSource. Blocks that are gone are left out.
  template <typename F>
  GQA_TAG void for_each_run(Index b, Index kv_head, Index begin, Index end, F&& fn) const {
    const Index slot = this->slot(b), last = ceil_div(end, block_keys);
    const auto at = [&](Index i) {
      return reinterpret_cast<const std::byte*>(block(slot, kv_head, i));
    };
    for (Index i = begin / block_keys; i < last;) {
      if (i >= kept_blocks_) i = (std::max)(i, oldest_[Base::at(slot)]);
      if (i >= last) return;
      // Up to the end of the kept blocks or of the ring's memory.
      const Index stretch = i < kept_blocks_ ? kept_blocks_ - i : ring_blocks_ - i % ring_blocks_;
      const Index run_end = (std::min)(last, i + stretch);
      fn(StripRun{.blocks = at(i),
                  .first = i * block_keys,
                  .count = (std::min)(end, run_end * block_keys) - i * block_keys,
                  .next = block_after(slot, kv_head, run_end)});
      i = run_end;
    }
  }

 private:
  static constexpr bool reuses_blocks = true;
  /// For ever: so far that positions after the last token are still numbers.
  static constexpr Index most_tokens =
      (std::numeric_limits<Index>::max)() / 2 / block_keys * block_keys;

  GQA_TAG Index kept_tokens() const { return kept_blocks_ * block_keys; }
  GQA_TAG Index first_in_ring(Index slot) const { return oldest_[Base::at(slot)] * block_keys; }
  GQA_TAG Index slot_blocks() const { return kept_blocks_ + ring_blocks_; }
  GQA_TAG Index slot_bytes() const {
    return this->num_kv_heads() * slot_blocks() * this->strips().block_bytes();
  }

  GQA_TAG const detail::Native<Storage>* block(Index slot, Index kv_head, Index i) const {
    const Index place = i < kept_blocks_ ? i : kept_blocks_ + i % ring_blocks_;
    return reinterpret_cast<const detail::Native<Storage>*>(
        buffer_.data() + ((slot * this->num_kv_heads() + kv_head) * slot_blocks() + place) *
                             this->strips().block_bytes());
  }

  /// What a head's stream goes on with at block i, for prefetching: that block or the oldest one
  /// after it, or else the next head.
  GQA_TAG const std::byte* block_after(Index slot, Index kv_head, Index i) const {
    const Index oldest = oldest_[Base::at(slot)];
    if (i * block_keys >= this->length_of(slot)) {
      if (++kv_head == this->num_kv_heads()) return nullptr;
      i = 0;
    }
    return reinterpret_cast<const std::byte*>(
        block(slot, kv_head, i < kept_blocks_ ? i : (std::max)(i, oldest)));
  }

  /// The number of the oldest block in the ring once a slot has had `length` tokens.
  GQA_TAG Index oldest_after(Index slot, Index length) const {
    return (std::max)(oldest_[Base::at(slot)], ceil_div(length, block_keys) - ring_blocks_);
  }
  /// Is everything there that a query at position `to` or the one before may see, if `oldest` is
  /// the oldest block in the ring?
  GQA_TAG bool can_go_back(Index oldest, Index to) const {
    return to <= kept_tokens() ||
           oldest * block_keys <= (std::max)(kept_tokens(), to - options_.window);
  }

  template <typename Count>
  GQA_TAG void make_room(const char* who, Index begin, Index end, Count count) {
    for (Index b = begin; b < end; ++b) {
      if (count(b) > options_.spare) {
        detail::throw_length_error({"RingKvCache::", who, ": ", count(b),
                                    " tokens at once exceed spare ", options_.spare, " (sequence ",
                                    b, ")"});
      }
      this->check_capacity(who, b, count(b), most_tokens);
    }
  }
  GQA_TAG void begin_write(Index slot, Index count) {
    oldest_[Base::at(slot)] = oldest_after(slot, this->length_of(slot) + count);
  }
  GQA_TAG void check_held(const char* who, Index sequence, Index begin, Index end) const {
    const Index ring = first_in_ring(this->slot(sequence));
    if (begin < end && (std::max)(begin, kept_tokens()) < (std::min)(end, ring)) {
      detail::throw_length_error({"RingKvCache::", who, ": tokens [", kept_tokens(), ", ", ring,
                                  ") of sequence ", sequence, " are gone"});
    }
  }

  GQA_TAG void drop(Index begin, Index end, Index to) {
    for (Index b = begin; b < end; ++b) {
      if (!can_go_back(oldest_[Base::at(this->slot(b))], to)) {
        detail::throw_length_error({"RingKvCache::truncate: from ", this->length(b), " to ", to,
                                    " tokens is further than spare ", options_.spare, ": tokens [",
                                    kept_tokens(), ", ", first_in_ring(this->slot(b)),
                                    ") of sequence ", b, " are gone"});
      }
    }
    for (Index b = begin; b < end; ++b) {
      const Index slot = this->slot(b);
      this->zero_behind(slot, to);
      if (to <= kept_tokens()) oldest_[Base::at(slot)] = kept_blocks_;  // the ring is empty
      this->set_length(slot, to);
    }
  }
  GQA_TAG void copy_slot(Index from, Index to) {
    std::copy_n(buffer_.data() + from * slot_bytes(), slot_bytes(),
                buffer_.data() + to * slot_bytes());
    oldest_[Base::at(to)] = oldest_[Base::at(from)];
  }

  GQA_TAG detail::TokenRange gone(Index slot) const {
    if (this->length_of(slot) <= kept_tokens() || first_in_ring(slot) == kept_tokens()) return {};
    return {kept_tokens(), first_in_ring(slot)};
  }
  GQA_TAG bool can_skip(const detail::TokenRange& gone, Index length) const {
    return gone.begin >= kept_tokens() && can_go_back(gone.end / block_keys, length);
  }
  GQA_TAG void skip(Index slot, Index to) { oldest_[Base::at(slot)] = to / block_keys; }
  GQA_TAG RingKvCache empty_like(Index batch) const {
    Options options = options_;
    options.batch = batch;
    options.heads = this->heads();
    return RingKvCache(options);
  }
  GQA_TAG void prepare_take(Index, const RingKvCache&) {}
  GQA_TAG void take(Index sequence, const RingKvCache& other) {
    const Index slot = this->slot(sequence);
    std::copy_n(other.buffer_.data(), slot_bytes(), buffer_.data() + slot * slot_bytes());
    oldest_[Base::at(slot)] = other.oldest_[0];
    this->set_length(slot, other.length_of(0));
  }

  Options options_;
  Index kept_blocks_ = 0;
  Index ring_blocks_ = 0;
  UniqueVector<Index> oldest_;  // [slots], the first block that is in the ring or will be
  AlignedBuffer buffer_;        // [slots][num_kv_heads][kept blocks, ring]
};

}  // namespace gqa
