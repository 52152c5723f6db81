// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// PageAllocator: one piece of memory, cut into pages that the sequences of all layers share (Kwon
// et al. 2023, arXiv 2309.06180). A page is counted: a fork is one more reference to each page, and
// whoever writes to a page that others refer to takes a copy first (paged.hpp). PageList is a
// sequence's references. Taking pages has two phases: a PageClaim sets pages aside or throws, and
// what follows can't fail.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "gqa/core/aligned_buffer.hpp"
#include "gqa/core/unique_vector.hpp"

namespace gqa {

/// How the pages of an allocator are used. pages = free + claimed + used.
struct PageStatistics {
  Index pages = 0;
  Index free = 0;     ///< for the taking
  Index claimed = 0;  ///< set aside by an operation that is under way
  Index used = 0;     ///< with one reference or more
  Index shared = 0;   ///< of those, with two or more
};

/// Pages of page_bytes bytes. All functions may be called from several threads at once. Stays where
/// it is: it can't be moved.
class PageAllocator {
 public:
  using Page = std::int32_t;  ///< a page's number

  struct Options {
    Index pages = 0;
    Index page_bytes = 0;  ///< see PagedKvCache::page_bytes()
  };

  /// Takes the memory, without touching it. Throws std::bad_alloc, or std::length_error for sizes
  /// that no memory could have.
  GQA_TAG explicit PageAllocator(const Options& options)
      : options_(options), unclaimed_(options.pages) {
    require(options.pages >= 0 && options.pages <= (std::numeric_limits<Page>::max)(),
            "PageAllocator: ", options.pages, " pages are outside of [0, ",
            (std::numeric_limits<Page>::max)(), "]");
    require(options.page_bytes > 0 && options.page_bytes % Index{alignment} == 0,
            "PageAllocator: page_bytes must be a positive multiple of ", alignment, ", is ",
            options.page_bytes);
    const Index bytes = memory_bytes("PageAllocator", {options.pages, options.page_bytes});
    free_.reserve(static_cast<std::size_t>(options.pages));
    for (Index i = options.pages; i-- > 0;) free_.push_back(static_cast<Page>(i));
    counts_ = std::vector<std::atomic<int>>(static_cast<std::size_t>(options.pages));
    memory_ = AlignedBuffer(static_cast<std::size_t>(bytes));
  }
  PageAllocator(const PageAllocator&) = delete;
  PageAllocator& operator=(const PageAllocator&) = delete;

  GQA_TAG Index pages() const { return options_.pages; }
  GQA_TAG Index page_bytes() const { return options_.page_bytes; }
  GQA_TAG std::byte* data(Page page) const { return memory_.data() + page * options_.page_bytes; }

  /// A snapshot; exact while nobody takes, shares or returns pages.
  GQA_TAG PageStatistics statistics() const {
    PageStatistics s{.pages = options_.pages};
    {
      const std::lock_guard lock(mutex_);
      s.free = unclaimed_;
      s.claimed = std::ssize(free_) - unclaimed_;
    }
    for (const auto& count : counts_) {
      const int n = count.load(std::memory_order_relaxed);
      s.used += n > 0;
      s.shared += n > 1;
    }
    return s;
  }

  /// How many references to this page there are. Where all of them are the caller's, it stays so,
  /// and what others did to the page is visible to the caller.
  GQA_TAG int references(Page page) const {
    return counts_[static_cast<std::size_t>(page)].load(std::memory_order_acquire);
  }
  /// Has anybody else a reference to this page, one's own aside?
  GQA_TAG bool is_shared(Page page) const { return references(page) > 1; }
  /// One more reference to a page that the caller has one to.
  GQA_TAG void share(Page page) noexcept {
    counts_[static_cast<std::size_t>(page)].fetch_add(1, std::memory_order_relaxed);
  }
  /// One reference less. Without any, the page is free.
  GQA_TAG void release(Page page) noexcept {
    if (counts_[static_cast<std::size_t>(page)].fetch_sub(1, std::memory_order_acq_rel) > 1) return;
    const std::lock_guard lock(mutex_);
    free_.push_back(page);  // within what the constructor reserved
    ++unclaimed_;
  }

 private:
  friend class PageClaim;

  GQA_TAG void claim(Index count) {
    const std::lock_guard lock(mutex_);
    if (count > unclaimed_) {
      detail::throw_length_error({"PageAllocator: ", count, " pages are needed, ", unclaimed_,
                                  " of ", options_.pages, " are free"});
    }
    unclaimed_ -= count;
  }
  GQA_TAG void unclaim(Index count) noexcept {
    const std::lock_guard lock(mutex_);
    unclaimed_ += count;
  }
  GQA_TAG Page take_claimed() noexcept {
    const std::lock_guard lock(mutex_);
    const Page page = free_.back();
    free_.pop_back();
    counts_[static_cast<std::size_t>(page)].store(1, std::memory_order_relaxed);
    return page;
  }

  Options options_;
  AlignedBuffer memory_;
  std::vector<std::atomic<int>> counts_;  // [pages], references
  mutable std::mutex mutex_;              // guards what follows
  std::vector<Page> free_;                // the last one is taken first
  Index unclaimed_;                       // of the free ones
};

/// Pages set aside; those that are not taken go back when it ends.
class PageClaim {
 public:
  /// Throws std::length_error if fewer than `count` pages are free.
  GQA_TAG PageClaim(PageAllocator& allocator, Index count) : allocator_(allocator), left_(count) {
    if (count > 0) allocator.claim(count);
  }
  GQA_TAG ~PageClaim() {
    if (left_ > 0) allocator_.unclaim(left_);
  }
  PageClaim(const PageClaim&) = delete;
  PageClaim& operator=(const PageClaim&) = delete;

  /// A page with one reference, the caller's. Its contents are arbitrary.
  GQA_TAG PageAllocator::Page take() noexcept {
    GQA_ASSERT(left_ > 0);
    --left_;
    return allocator_.take_claimed();
  }

 private:
  PageAllocator& allocator_;
  Index left_;
};

/// The pages of a sequence, in order. Owns one reference to each. One that was moved from has no
/// pages and no allocator.
class PageList {
 public:
  GQA_TAG PageList() = default;
  /// With room for `most` pages; nothing is allocated later on. Throws std::bad_alloc.
  GQA_TAG PageList(std::shared_ptr<PageAllocator> allocator, Index most)
      : allocator_(std::move(allocator)) {
    pages_.reserve(static_cast<std::size_t>(most));
  }
  GQA_TAG PageList(PageList&&) noexcept = default;
  GQA_TAG PageList& operator=(PageList&& other) noexcept {
    PageList taken(std::move(other));  // of itself, too
    std::swap(allocator_, taken.allocator_);
    std::swap(pages_, taken.pages_);
    return *this;
  }
  GQA_TAG ~PageList() { shrink(0); }

  GQA_TAG Index size() const { return std::ssize(pages_); }
  GQA_TAG PageAllocator::Page operator[](Index i) const {
    return pages_[static_cast<std::size_t>(i)];
  }
  GQA_TAG const std::shared_ptr<PageAllocator>& allocator() const { return allocator_; }
  GQA_TAG std::byte* data(Index i) const { return allocator_->data((*this)[i]); }
  GQA_TAG bool is_shared(Index i) const { return allocator_->is_shared((*this)[i]); }

  /// Appends a page whose reference the list takes over. There must be room.
  GQA_TAG void push(PageAllocator::Page page) noexcept {
    GQA_ASSERT(pages_.size() < pages_.capacity());
    pages_.push_back(page);
  }
  /// Puts `page`, whose reference the list takes over, in the place of page i.
  GQA_TAG void replace(Index i, PageAllocator::Page page) noexcept {
    allocator_->release(std::exchange(pages_[static_cast<std::size_t>(i)], page));
  }
  /// Releases all pages but the first `count`.
  GQA_TAG void shrink(Index count) noexcept {
    while (size() > count) {
      allocator_->release(pages_.back());
      pages_.pop_back();
    }
  }
  /// Makes this list the first `count` pages of another one of the same allocator. There must be
  /// room.
  GQA_TAG void share(const PageList& other, Index count) noexcept {
    for (Index i = 0; i < count; ++i) allocator_->share(other[i]);
    shrink(0);
    for (Index i = 0; i < count; ++i) push(other[i]);
  }

 private:
  std::shared_ptr<PageAllocator> allocator_;
  UniqueVector<PageAllocator::Page> pages_;
};

namespace detail {

/// Pages that must be copied before sequences [begin, end) are written, where changed(b) is the
/// number of the shared page that sequence b would change, or -1. Of sequences that change the same
/// one, the last keeps it if nobody else has it.
template <typename Changed>
GQA_TAG Index count_copies(const PageAllocator& allocator, Index begin, Index end,
                           Changed changed) {
  Index copies = 0;
  for (Index b = begin; b < end; ++b) {
    const PageAllocator::Page page = changed(b);
    if (page < 0) continue;
    Index writers = 0;
    bool is_last = true;
    for (Index other = begin; other < end; ++other) {
      if (changed(other) != page) continue;
      ++writers;
      is_last &= other <= b;
    }
    copies += !(is_last && writers == allocator.references(page));
  }
  return copies;
}

}  // namespace detail

}  // namespace gqa
