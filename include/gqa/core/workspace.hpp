// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Memory that the caller owns and calls reuse, so that a warm decode step allocates nothing.
#pragma once

#include <memory>
#include <new>
#include <utility>

#include "gqa/core/config.hpp"
#include "gqa/core/heads.hpp"

namespace gqa {

/// Bytes at a multiple of gqa::alignment. Unlike Eigen's own buffers, whose header depends on the
/// instruction set, it can be made in one translation unit and freed in another.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  /// Contents are not initialised. Throws std::bad_alloc.
  explicit AlignedBuffer(std::size_t bytes)
      : data_(bytes == 0 ? nullptr
                         : static_cast<std::byte*>(
                               ::operator new(bytes, std::align_val_t(alignment)))),
        bytes_(bytes) {}
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer() { ::operator delete(data_, std::align_val_t(alignment)); }

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Scratch memory for attend(), a module, or an engine's own steps. It only grows, to the largest
/// call so far. One workspace serves one call at a time.
class Workspace {
 public:
  Workspace() = default;
  explicit Workspace(std::size_t bytes) : buffer_(bytes) {}

  /// At least `bytes` bytes at a multiple of gqa::alignment, with arbitrary contents. What an
  /// earlier reserve() returned is no longer valid. Throws std::bad_alloc, and then stays as it was.
  std::byte* reserve(std::size_t bytes) {
    if (bytes > buffer_.bytes()) buffer_ = AlignedBuffer(bytes);
    return buffer_.data();
  }
  std::size_t bytes() const { return buffer_.bytes(); }

  /// Scratch for a call nested in one that already holds this workspace's memory, as attend()
  /// inside a module's forward(). Made at its first use.
  Workspace& nested() {
    if (!nested_) nested_ = std::make_unique<Workspace>();
    return *nested_;
  }

 private:
  AlignedBuffer buffer_;
  std::unique_ptr<Workspace> nested_;
};

/// Hands out consecutive aligned arrays of one reservation. With a null base it only counts, so one
/// function that lists the arrays serves to size a workspace and to carve it.
class Carver {
 public:
  explicit Carver(std::byte* base = nullptr) : base_(base) {}

  template <typename T>
  T* take(Index count) {
    const std::size_t at = bytes_;
    bytes_ += (static_cast<std::size_t>(count) * sizeof(T) + alignment - 1) / alignment * alignment;
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* base_;
  std::size_t bytes_ = 0;
};

}  // namespace gqa
