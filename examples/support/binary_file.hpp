// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Files of numbers, read whole and never trusted: every read is checked against the file's size,
// and every error names the file and the byte. All formats here (safetensors, llama2.c) are
// little-endian, and so is every machine that these examples support.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gqa::examples {

static_assert(std::endian::native == std::endian::little,
              "the example file formats are little-endian and read without byte swapping");

/// Throws std::runtime_error: "model.bin: byte 28: what is wrong".
[[noreturn]] inline void fail_at(std::string_view file, std::uint64_t byte, std::string_view what) {
  throw std::runtime_error(std::string(file) + ": byte " + std::to_string(byte) + ": " +
                           std::string(what));
}

/// Owned bytes that start at a multiple of 64, so that numbers of any type can be read in place.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(std::size_t size)
      : data_(static_cast<std::byte*>(::operator new(size == 0 ? 1 : size, alignment))),
        size_(size) {}

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  std::span<const std::byte> span() const { return {data_.get(), size_}; }

 private:
  static constexpr std::align_val_t alignment{64};
  struct Delete {
    void operator()(std::byte* bytes) const { ::operator delete(bytes, alignment); }
  };
  std::unique_ptr<std::byte, Delete> data_;
  std::size_t size_ = 0;
};

/// The regular file at `path`, opened, with its size.
class BinaryFile {
 public:
  /// Throws std::runtime_error if there is no such regular file or it cannot be opened.
  explicit BinaryFile(const std::filesystem::path& path) : name_(path.string()) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) {
      fail_at(name_, 0, error ? error.message() : "not a regular file");
    }
    size_ = std::filesystem::file_size(path, error);
    if (error) fail_at(name_, 0, error.message());
    stream_.open(path, std::ios::binary);
    if (!stream_) fail_at(name_, 0, "cannot open the file for reading");
  }

  const std::string& name() const { return name_; }
  std::uint64_t size() const { return size_; }

  /// `count` bytes from `offset` into `to`. Throws std::runtime_error if the file ends before.
  void read(std::uint64_t offset, std::byte* to, std::uint64_t count) {
    if (offset > size_ || count > size_ - offset) {
      fail_at(name_, offset,
              "needs " + std::to_string(count) + " bytes, but the file has " +
                  std::to_string(size_) + " in all");
    }
    stream_.seekg(static_cast<std::streamoff>(offset));
    stream_.read(reinterpret_cast<char*>(to), static_cast<std::streamsize>(count));
    if (!stream_ || stream_.gcount() != static_cast<std::streamsize>(count)) {
      fail_at(name_, offset, "cannot read " + std::to_string(count) + " bytes");
    }
  }

  /// The bytes from `offset` to the end, in memory that starts at a multiple of 64.
  AlignedBytes read_rest(std::uint64_t offset = 0) {
    if (offset > size_) read(offset, nullptr, 0);  // throws
    AlignedBytes bytes(static_cast<std::size_t>(size_ - offset));
    read(offset, bytes.data(), size_ - offset);
    return bytes;
  }

 private:
  std::string name_;
  std::uint64_t size_ = 0;
  std::ifstream stream_;
};

/// Walks through bytes from front to back and refuses to step beyond their end.
class ByteCursor {
 public:
  /// `file` names the source in errors; `first_byte` is where in it `bytes` begins.
  ByteCursor(std::span<const std::byte> bytes, std::string file, std::uint64_t first_byte = 0)
      : bytes_(bytes), file_(std::move(file)), first_byte_(first_byte) {}

  /// The next number. Throws std::runtime_error at the end of the file.
  template <typename T>
    requires std::is_arithmetic_v<T>
  T take(std::string_view what) {
    T value;
    std::memcpy(&value, take_bytes(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  /// The next `count` bytes. Throws std::runtime_error if fewer are left.
  std::span<const std::byte> take_bytes(std::uint64_t count, std::string_view what) {
    if (count > remaining()) {
      fail("the file ends inside " + std::string(what) + ": needs " + std::to_string(count) +
           " bytes, has " + std::to_string(remaining()));
    }
    const auto part = bytes_.subspan(position_, static_cast<std::size_t>(count));
    position_ += static_cast<std::size_t>(count);
    return part;
  }

  std::uint64_t byte() const { return first_byte_ + position_; }
  std::uint64_t remaining() const { return bytes_.size() - position_; }

  /// Throws std::runtime_error that names the file and the current byte, or `bytes_back` before it.
  [[noreturn]] void fail(std::string_view what, std::uint64_t bytes_back = 0) const {
    fail_at(file_, byte() - bytes_back, what);
  }

 private:
  std::span<const std::byte> bytes_;
  std::string file_;
  std::uint64_t first_byte_ = 0;
  std::size_t position_ = 0;
};

}  // namespace gqa::examples
