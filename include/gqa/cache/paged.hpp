// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// PagedKvCache: keys and values of one layer in pages of a PageAllocator, which many caches share,
// one per layer of a model. Memory is taken as sequences grow and goes back as they end; a fork
// costs no memory until one side writes (PagedAttention: Kwon et al. 2023, arXiv 2309.06180).
//
// A page is [num_kv_heads][blocks of 64 tokens], so that a head's part of it is one stretch.
#pragma once

#include "gqa/cache/page_allocator.hpp"
#include "gqa/cache/strip_cache.hpp"

namespace gqa {

/// Every operation happens in full or, when it throws, not at all: std::invalid_argument for
/// shapes, std::length_error for tokens beyond the capacity or when pages run out. No operation on
/// a sequence allocates memory of its own.
///
/// fork(), reorder() and clone() share pages; the first write to a shared page, append or a
/// truncate to within a block, copies it. Several threads may read at once, and different sequences
/// may be written at once, whatever pages they share; a sequence that is written must not be read
/// or forked meanwhile; what concerns the whole batch needs the cache to itself. Allocators need no
/// care.
template <StorageType StorageT, typename HeadsT = Heads<>>
class PagedKvCache : public detail::StripCache<PagedKvCache<StorageT, HeadsT>, StorageT, HeadsT> {
  using Base = detail::StripCache<PagedKvCache, StorageT, HeadsT>;
  friend Base;
  friend detail::SavedCache;

 public:
  using typename Base::Storage;

  struct Options {
    Index batch = 1;  ///< sequences
    /// Tokens that a sequence may have; costs 4 bytes per page, of no more than the allocator has.
    Index capacity = 0;
    /// A multiple of 64. Small pages waste least; from memory, decoding over pages of 512 takes 1.0
    /// to 1.2 times the time of a contiguous cache, of 64 1.05 to 1.4 (bench/README.md).
    Index page_tokens = 64;
    HeadsT heads = {};  ///< needed where HeadsT leaves numbers open
  };

  /// Bytes of a page, to make a PageAllocator with. Throws std::invalid_argument for page_tokens
  /// that aren't a positive multiple of 64, std::length_error for sizes that no memory could have.
  GQA_TAG static Index page_bytes(const HeadsT& heads, Index page_tokens = block_keys) {
    check_page_tokens("PagedKvCache::page_bytes", page_tokens);
    const StripLayout<Storage> layout(heads.head_dim(), heads.value_dim());
    return memory_bytes("PagedKvCache::page_bytes",
                        {heads.num_kv_heads(), page_tokens / block_keys, layout.block_bytes()});
  }

  /// Takes no page yet. The allocator's pages must be as large as this cache's, or larger. Throws
  /// std::bad_alloc.
  GQA_TAG PagedKvCache(std::shared_ptr<PageAllocator> allocator, const Options& options)
      : Base("PagedKvCache", options.batch, options.heads),
        options_(options),
        allocator_(std::move(allocator)) {
    require(options.capacity >= 0, "PagedKvCache: capacity must not be negative, is ",
            options.capacity);
    check_page_tokens("PagedKvCache", options.page_tokens);
    require(allocator_ != nullptr, "PagedKvCache: the allocator is null");
    require(allocator_->page_bytes() >= page_bytes(), "PagedKvCache: a page takes ", page_bytes(),
            " bytes, the allocator's have ", allocator_->page_bytes());
    // A sequence never has a page twice.
    const Index most = (std::min)(pages_for(options.capacity), allocator_->pages());
    for (Index b = 0; b < options.batch; ++b) pages_.emplace_back(allocator_, most);
  }
  GQA_TAG PagedKvCache(PagedKvCache&&) noexcept = default;
  GQA_TAG PagedKvCache& operator=(PagedKvCache&&) noexcept = default;
  GQA_TAG ~PagedKvCache() = default;

  /// Null once the cache was moved from.
  GQA_TAG const std::shared_ptr<PageAllocator>& allocator() const { return allocator_; }
  GQA_TAG Index page_tokens() const { return options_.page_tokens; }
  GQA_TAG Index page_bytes() const { return page_bytes(this->heads(), options_.page_tokens); }
  GQA_TAG Index capacity() const { return options_.capacity; }
  /// References to pages, of all sequences together.
  GQA_TAG Index pages() const {
    Index n = 0;
    for (const PageList& list : pages_) n += list.size();
    return n;
  }
  GQA_TAG Index pages(Index sequence) const {
    this->check_sequence("pages", sequence);
    return pages_[Base::at(this->slot(sequence))].size();
  }
  /// Memory for keys and values; a page that several sequences share counts for each.
  GQA_TAG Index bytes() const { return pages() * page_bytes(); }
  /// The share of the pages that holds no token: each sequence's last page is filled in part. 0
  /// without pages.
  GQA_TAG double fragmentation() const {
    Index tokens = 0;
    for (Index b = 0; b < this->batch(); ++b) tokens += this->length(b);
    const Index room = pages() * options_.page_tokens;
    return room == 0 ? 0 : 1 - static_cast<double>(tokens) / static_cast<double>(room);
  }

  /// The first tokens of a sequence, kept for sequences to come: a system prompt, say. Holds
  /// references to the pages, whatever becomes of the sequence and the cache.
  class Prefix {
   public:
    GQA_TAG Prefix(Prefix&&) noexcept = default;
    GQA_TAG Prefix& operator=(Prefix&&) noexcept = default;
    GQA_TAG ~Prefix() = default;

    GQA_TAG Index length() const { return length_; }

   private:
    friend PagedKvCache;
    GQA_TAG Prefix(PageList&& pages, Index length, const PagedKvCache& cache)
        : pages_(std::move(pages)),
          length_(length),
          heads_(cache.heads()),
          page_tokens_(cache.page_tokens()) {}

    PageList pages_;
    Index length_;
    HeadsT heads_;
    Index page_tokens_;
  };

  /// The first `length` tokens of a sequence. Takes a page if that isn't all of them and ends
  /// within a block. Throws std::bad_alloc, too.
  GQA_TAG Prefix share_prefix(Index sequence, Index length) const {
    require(length >= 0 && length <= this->length(sequence), "PagedKvCache::share_prefix: length ",
            length, " is outside of [0, ", this->length(sequence), "] (sequence ", sequence, ")");
    const Index slot = this->slot(sequence), count = pages_for(length);
    const PageList& from = pages_[Base::at(slot)];
    PageList pages(from.allocator(), count);
    const bool cut = length < this->length(sequence) && length % block_keys != 0;
    PageClaim claim(*from.allocator(), cut ? 1 : 0);
    pages.share(from, count);
    if (cut) copy_page(pages, count - 1, length, claim.take());
    return Prefix(std::move(pages), length, *this);
  }

  /// Makes a sequence begin with a prefix; whatever it held before is forgotten. The prefix may
  /// come from another cache of the same layer, with the same allocator.
  GQA_TAG void start_with(Index sequence, const Prefix& prefix) {
    check_start(sequence, prefix);
    const Index slot = this->slot(sequence);
    pages_[Base::at(slot)].share(prefix.pages_, prefix.pages_.size());
    this->set_length(slot, prefix.length_);
  }
  /// Throws what start_with() would throw.
  GQA_TAG void check_start(Index sequence, const Prefix& prefix) const {
    this->check_sequence("start_with", sequence);
    require(prefix.pages_.allocator() != nullptr,
            "PagedKvCache::start_with: the prefix was moved from");
    const auto same = [](const char* what, Index ours, Index theirs) {
      require(ours == theirs, "PagedKvCache::start_with: ", what, " is ", ours,
              ", the prefix's is ", theirs);
    };
    require(allocator_ == prefix.pages_.allocator(),
            "PagedKvCache::start_with: the prefix lies in another allocator");
    same("num_kv_heads", this->num_kv_heads(), prefix.heads_.num_kv_heads());
    same("head_dim", this->head_dim(), prefix.heads_.head_dim());
    same("value_dim", this->value_dim(), prefix.heads_.value_dim());
    same("page_tokens", page_tokens(), prefix.page_tokens_);
    if (prefix.length_ > capacity()) {
      detail::throw_length_error({"PagedKvCache::start_with: a prefix of ", prefix.length_,
                                  " tokens exceeds the capacity of ", capacity()});
    }
  }

  /// Makes sure that truncate(sequence, length) can't fail, by copying now the page that it would
  /// have to. Throws what truncate would.
  GQA_TAG void prepare_truncate(Index sequence, Index length) {
    this->check_sequence("truncate", sequence);
    this->check_truncation(sequence, length);
    const Index slot = this->slot(sequence);
    if (!copies_to_drop(slot, length)) return;
    PageClaim claim(*allocator_, 1);
    const Index page = length / options_.page_tokens;
    const Index page_end = (std::min)(this->length(sequence), (page + 1) * options_.page_tokens);
    copy_page(pages_[Base::at(slot)], page, page_end, claim.take());
  }

  /// A cache of the same sequences that shares all pages. Throws std::bad_alloc.
  GQA_TAG PagedKvCache clone() const {
    this->check_not_moved_from("clone");
    Options options = options_;
    options.heads = this->heads();
    PagedKvCache copy(allocator_, options);
    for (Index slot = 0; slot < this->batch(); ++slot) {
      copy.pages_[Base::at(slot)].share(pages_[Base::at(slot)], pages_for(this->length_of(slot)));
    }
    copy.copy_sequences(*this);
    return copy;
  }

  /// See KvSource.
  template <typename F>
  GQA_TAG void for_each_run(Index b, Index kv_head, Index begin, Index end, F&& fn) const {
    const Index slot = this->slot(b), tokens = options_.page_tokens;
    while (begin < end) {
      const Index page_end = (begin / tokens + 1) * tokens;
      const Index count = (std::min)(page_end, end) - begin;
      fn(StripRun{
          .blocks = reinterpret_cast<const std::byte*>(block(slot, kv_head, begin / block_keys)),
          .first = begin,
          .count = count,
          .next = block_after(slot, kv_head, begin + count)});
      begin += count;
    }
  }

 private:
  static constexpr bool reuses_blocks = true;

  GQA_TAG static void check_page_tokens(const char* who, Index page_tokens) {
    require(page_tokens > 0 && page_tokens % block_keys == 0, who,
            ": page_tokens must be a positive multiple of ", block_keys, ", is ", page_tokens);
  }
  GQA_TAG Index pages_for(Index tokens) const { return ceil_div(tokens, options_.page_tokens); }
  GQA_TAG Index head_bytes() const {
    return options_.page_tokens / block_keys * this->strips().block_bytes();
  }

  GQA_TAG const detail::Native<Storage>* block(Index slot, Index kv_head, Index i) const {
    const Index blocks = options_.page_tokens / block_keys;
    return reinterpret_cast<const detail::Native<Storage>*>(
        pages_[Base::at(slot)].data(i / blocks) + kv_head * head_bytes() +
        i % blocks * this->strips().block_bytes());
  }
  /// What a head's stream goes on with after token `end`, for prefetching: the next block, or else
  /// the next head.
  GQA_TAG const std::byte* block_after(Index slot, Index kv_head, Index end) const {
    if (end >= this->length_of(slot)) {
      if (++kv_head == this->num_kv_heads()) return nullptr;
      end = 0;
    }
    return reinterpret_cast<const std::byte*>(block(slot, kv_head, end / block_keys));
  }

  /// Would writing after token `length` of a slot change a page that others refer to?
  GQA_TAG bool ends_in_shared_page(Index slot, Index length) const {
    return length % options_.page_tokens != 0 &&
           pages_[Base::at(slot)].is_shared(length / options_.page_tokens);
  }
  /// Puts `copy`, with the first tokens of page i, in its place; `length` is the sequence's.
  GQA_TAG void copy_page(PageList& pages, Index i, Index length, PageAllocator::Page copy) const {
    const auto& strips = this->strips();
    const Index tokens = length - i * options_.page_tokens;
    const Index whole = ceil_div(tokens, block_keys) * strips.block_bytes();
    for (Index h = 0; h < this->num_kv_heads(); ++h) {
      std::byte* head = allocator_->data(copy) + h * head_bytes();
      std::copy_n(pages.data(i) + h * head_bytes(), whole, head);
      if (tokens % block_keys != 0) {
        detail::strip_functions<Storage>().zero({this->head_dim(), this->value_dim()},
                                                head + whole - strips.block_bytes(),
                                                tokens % block_keys, block_keys);
      }
    }
    pages.replace(i, copy);
  }

  /// The page of a slot that holds token `length`, if others refer to it, or else -1.
  GQA_TAG PageAllocator::Page shared_page(Index slot, Index length) const {
    if (!ends_in_shared_page(slot, length)) return -1;
    return pages_[Base::at(slot)][length / options_.page_tokens];
  }

  template <typename Count>
  GQA_TAG void make_room(const char* who, Index begin, Index end, Count count) {
    if (begin == end) return;  // of a cache that was moved from
    const auto missing = [&](Index b) {
      const Index slot = this->slot(b), length = this->length_of(slot);
      return (std::max)(pages_for(length + count(b)) - pages_[Base::at(slot)].size(), Index{0});
    };
    const auto changed = [&](Index b) {
      const Index slot = this->slot(b);
      return count(b) > 0 ? shared_page(slot, this->length_of(slot)) : -1;
    };
    for (Index b = begin; b < end; ++b) this->check_capacity(who, b, count(b), capacity());
    Index needed = detail::count_copies(*allocator_, begin, end, changed);
    for (Index b = begin; b < end; ++b) needed = detail::saturated_sum(needed, missing(b));
    PageClaim claim(*allocator_, needed);
    // From here on nothing fails. (A page that was shared a moment ago may no longer be.)
    for (Index b = begin; b < end; ++b) {
      const Index slot = this->slot(b), length = this->length_of(slot);
      PageList& pages = pages_[Base::at(slot)];
      if (changed(b) >= 0) copy_page(pages, length / options_.page_tokens, length, claim.take());
      for (Index n = missing(b); n > 0; --n) pages.push(claim.take());
    }
  }
  GQA_TAG void begin_write(Index, Index) {}
  GQA_TAG void check_held(const char*, Index, Index, Index) const {}

  /// Must shortening a slot to `to` tokens zero what lies after them in a page of others, too?
  GQA_TAG bool copies_to_drop(Index slot, Index to) const {
    return to < this->length_of(slot) && to % block_keys != 0 && ends_in_shared_page(slot, to);
  }
  GQA_TAG void drop(Index begin, Index end, Index to) {
    if (begin == end) return;  // of a cache that was moved from
    const auto changed = [&](Index b) {
      const Index slot = this->slot(b);
      return copies_to_drop(slot, to) ? shared_page(slot, to) : -1;
    };
    PageClaim claim(*allocator_, detail::count_copies(*allocator_, begin, end, changed));
    for (Index b = begin; b < end; ++b) {
      const Index slot = this->slot(b);
      PageList& pages = pages_[Base::at(slot)];
      if (changed(b) >= 0) {
        copy_page(pages, to / options_.page_tokens, to, claim.take());
      } else {
        this->zero_behind(slot, to);
      }
      pages.shrink(pages_for(to));
      this->set_length(slot, to);
    }
  }
  GQA_TAG void copy_slot(Index from, Index to) {
    pages_[Base::at(to)].share(pages_[Base::at(from)], pages_for(this->length_of(from)));
  }

  GQA_TAG detail::TokenRange gone(Index) const { return {}; }
  GQA_TAG bool can_skip(const detail::TokenRange&, Index) const { return false; }
  GQA_TAG void skip(Index, Index) {}
  GQA_TAG PagedKvCache empty_like(Index batch) const {
    Options options = options_;
    options.batch = batch;
    options.heads = this->heads();
    return PagedKvCache(allocator_, options);
  }
  GQA_TAG void prepare_take(Index, const PagedKvCache&) {}
  GQA_TAG void take(Index sequence, PagedKvCache& other) {
    const Index slot = this->slot(sequence);
    std::swap(pages_[Base::at(slot)], other.pages_[0]);
    this->set_length(slot, other.length_of(0));
  }

  Options options_;
  std::shared_ptr<PageAllocator> allocator_;
  UniqueVector<PageList> pages_;  // [slots]
};
}  // namespace gqa
