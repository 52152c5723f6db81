// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Little-endian numbers to a stream and back, with checksums in between and, where something is
// wrong, the byte: what serialize.hpp is written on.
#pragma once

#include <cstdint>
#include <istream>
#include <ostream>
#include <stdexcept>
#include <string>

#include "gqa/cache/crc32.hpp"
#include "gqa/core/error.hpp"
#include "gqa/layout/stored.hpp"

namespace gqa::detail {

/// Writes to a stream, counting bytes, with a checksum of all of them.
class CheckedWriter {
 public:
  GQA_TAG CheckedWriter(std::ostream& out, const std::string& name) : out_(out), name_(name) {}

  GQA_TAG void bytes(const void* data, std::size_t count) {
    checksum_ = crc32(static_cast<const std::byte*>(data), count, checksum_);
    write(data, count);
  }
  template <typename T>
  GQA_TAG void number(T x) {
    std::byte raw[sizeof(x)];
    copy_little_endian(&x, raw, sizeof(x));
    bytes(raw, sizeof(x));
  }
  GQA_TAG void index(Index x) { number(static_cast<std::uint64_t>(x)); }
  GQA_TAG void checksum() {
    std::byte raw[sizeof(checksum_)];
    copy_little_endian(&checksum_, raw, sizeof(raw));
    write(raw, sizeof(raw));
  }
  /// What a stream still buffers must arrive, too: a full disk shows here at the latest.
  GQA_TAG void finish() {
    out_.flush();
    check();
  }

 private:
  GQA_TAG void check() const {
    if (!out_) throw std::runtime_error(message(name_, ": byte ", at_, ": writing failed"));
  }
  GQA_TAG void write(const void* data, std::size_t count) {
    out_.write(static_cast<const char*>(data), static_cast<std::streamsize>(count));
    check();
    at_ += static_cast<Index>(count);
  }

  std::ostream& out_;
  const std::string& name_;
  Index at_ = 0;
  std::uint32_t checksum_ = 0;
};

/// Reads what CheckedWriter wrote. Whatever is wrong throws std::runtime_error.
class CheckedReader {
 public:
  GQA_TAG CheckedReader(std::istream& in, const std::string& name) : in_(in), name_(name) {}

  GQA_TAG void bytes(void* data, std::size_t count) {
    read(data, count);
    checksum_ = crc32(static_cast<const std::byte*>(data), count, checksum_);
  }
  template <typename T>
  GQA_TAG T number() {
    std::byte raw[sizeof(T)];
    bytes(raw, sizeof(T));
    T x;
    copy_little_endian(raw, &x, sizeof(T));
    return x;
  }
  GQA_TAG void checksum(const char* of) {
    const Index at = at_;
    std::byte raw[sizeof(checksum_)];
    read(raw, sizeof(raw));
    std::uint32_t written;
    copy_little_endian(raw, &written, sizeof(raw));
    if (written != checksum_) {
      fail(at, of, " is damaged: its checksum is ", written, ", that of its bytes ", checksum_);
    }
  }
  /// Where the next byte is.
  GQA_TAG Index at() const { return at_; }

  template <typename... Parts>
  [[noreturn]] GQA_TAG void fail(Index at, const Parts&... parts) const {
    throw std::runtime_error(message(name_, ": byte ", at, ": ", parts...));
  }

 private:
  GQA_TAG void read(void* data, std::size_t count) {
    in_.read(static_cast<char*>(data), static_cast<std::streamsize>(count));
    const Index got = in_.gcount();
    if (got != static_cast<Index>(count)) fail(at_ + got, "the file ends too early");
    at_ += got;
  }

  std::istream& in_;
  const std::string& name_;
  Index at_ = 0;
  std::uint32_t checksum_ = 0;
};

}  // namespace gqa::detail
