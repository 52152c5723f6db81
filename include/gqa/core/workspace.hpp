// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Memory that the caller owns and calls reuse, so that a warm decode step allocates nothing.
#pragma once

#include <memory>

#include "gqa/core/aligned_buffer.hpp"
#include "gqa/core/heads.hpp"

namespace gqa {

/// Scratch memory for attend(), a module, or an engine's own steps. It only grows, by half of
/// itself or more, so that calls that need a little more each time seldom allocate. One workspace
/// serves one call at a time.
class Workspace {
 public:
  GQA_TAG Workspace() = default;
  GQA_TAG explicit Workspace(std::size_t bytes) : buffer_(bytes) {}
  GQA_TAG Workspace(Workspace&&) noexcept = default;
  GQA_TAG Workspace& operator=(Workspace&&) noexcept = default;
  GQA_TAG ~Workspace() = default;

  /// At least `bytes` bytes at a multiple of gqa::alignment, with arbitrary contents. What an
  /// earlier reserve() returned is no longer valid. Throws std::bad_alloc, std::length_error (more
  /// than an Index counts), and then stays as it was.
  GQA_TAG std::byte* reserve(std::size_t bytes) {
    if (bytes > buffer_.bytes()) {
      buffer_ = AlignedBuffer((std::max)(bytes, buffer_.bytes() + buffer_.bytes() / 2));
    }
    return buffer_.data();
  }
  GQA_TAG std::size_t bytes() const { return buffer_.bytes(); }

  /// What the program reads between two calls over the same keys, in bytes: a model's weights and
  /// the caches of its other layers. Where that is more than the processor's caches hold, keys and
  /// values come from memory, and few query rows read them in another way (kernel/row_block.hpp):
  /// with the same bits, in about 0.8 of the time. 0: nothing but these keys and values.
  GQA_TAG void set_working_set(std::size_t bytes) { working_set_ = bytes; }
  GQA_TAG std::size_t working_set() const { return working_set_; }

  /// Scratch for a call nested in one that already holds this workspace's memory, as attend()
  /// inside a module's forward(). Made at its first use.
  GQA_TAG Workspace& nested() {
    if (!nested_) nested_.reset(new Workspace);  // make_unique() would carry no tag
    nested_->set_working_set(working_set_);
    return *nested_;
  }

 private:
  AlignedBuffer buffer_;
  std::size_t working_set_ = 0;
  std::unique_ptr<Workspace> nested_;
};

/// Hands out consecutive aligned arrays of one reservation. With a null base it only counts, so one
/// function that lists the arrays serves to size a workspace and to carve it.
class Carver {
 public:
  GQA_TAG explicit Carver(std::byte* base = nullptr) : base_(base) {}

  template <typename T>
  GQA_TAG T* take(Index count) {
    return reinterpret_cast<T*>(take_bytes(static_cast<std::size_t>(count), sizeof(T)));
  }
  /// Throws std::length_error if all arrays together are more than an Index counts.
  GQA_TAG std::size_t bytes() const {
    if (too_many_) {
      detail::throw_length_error({"Carver: the arrays take more bytes than ",
                                  std::numeric_limits<Index>::digits, " bits count"});
    }
    return bytes_;
  }

 private:
  GQA_TAG std::byte* take_bytes(std::size_t count, std::size_t size) {
    // No exception from here: a task of a short decode carves a dozen arrays, and took a tenth
    // longer with one.
    too_many_ = too_many_ || count > most / size;
    const std::size_t at = bytes_;
    bytes_ += (count * size + alignment - 1) / alignment * alignment;
    too_many_ = too_many_ || bytes_ > most;
    return base_ ? base_ + at : nullptr;
  }

  static constexpr std::size_t most =
      static_cast<std::size_t>((std::numeric_limits<Index>::max)()) / alignment * alignment;

  std::byte* base_;
  std::size_t bytes_ = 0;
  bool too_many_ = false;
};

}  // namespace gqa
