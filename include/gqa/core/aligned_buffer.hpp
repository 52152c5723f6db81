// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// AlignedBuffer: the memory of caches, weights and workspaces. Unlike Eigen's own buffers, whose
// header depends on the instruction set, it can be made in one translation unit and freed in
// another. Large ones ask for huge pages: a decode step reads each key and value once, and with 4
// KiB pages the walks through the page table take a share of that time (Zen 4, f32: decode 1.15
// to 1.3 times as fast).
#pragma once

#include <new>
#include <utility>
#include <vector>

#include "gqa/core/sizes.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace gqa {

/// Bytes at a multiple of gqa::alignment, or of 2 MiB for large ones. A buffer that was moved from
/// is empty.
class AlignedBuffer {
 public:
  GQA_TAG AlignedBuffer() = default;
  /// Contents are not initialised. Throws std::bad_alloc, or std::length_error for more bytes than
  /// an Index counts, which operator new would round up to none.
  GQA_TAG explicit AlignedBuffer(std::size_t bytes) : bytes_(bytes) {
    if (bytes > static_cast<std::size_t>((std::numeric_limits<Index>::max)())) {
      detail::throw_length_error({"AlignedBuffer: ", bytes, " bytes are more than ",
                                  std::numeric_limits<Index>::digits, " bits count"});
    }
    if (bytes == 0) return;
    data_ = static_cast<std::byte*>(::operator new(bytes, align()));
#if defined(MADV_HUGEPAGE)
    // Advice: where the system has no huge pages to give, nothing happens.
    if (is_large()) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  }
  GQA_TAG AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  GQA_TAG AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    AlignedBuffer taken(std::move(other));  // of itself, too
    std::swap(data_, taken.data_);
    std::swap(bytes_, taken.bytes_);
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  GQA_TAG ~AlignedBuffer() { ::operator delete(data_, align()); }

  GQA_TAG std::byte* data() const { return data_; }
  GQA_TAG std::size_t bytes() const { return bytes_; }

 private:
  static constexpr std::size_t huge_page = std::size_t{2} << 20;

  GQA_TAG bool is_large() const { return bytes_ >= 2 * huge_page; }
  GQA_TAG std::align_val_t align() const {
    return std::align_val_t(is_large() ? huge_page : alignment);
  }

  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace gqa
