// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Files larger than memory (POSIX): read through a map, of which pages can be given back as soon as
// they have been used, and written at any place.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "support/binary_file.hpp"

namespace gqa::examples {

/// An open file's number, closed at the end.
class FileDescriptor {
 public:
  explicit FileDescriptor(int number = -1) : number_(number) {}
  FileDescriptor(FileDescriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~FileDescriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int number() const { return number_; }
  int release() { return std::exchange(number_, -1); }

 private:
  int number_;
};

/// The bytes of a regular file, read when touched.
class MappedFile {
 public:
  /// Throws std::runtime_error if there is no such regular file or it cannot be read.
  explicit MappedFile(const std::filesystem::path& path) : name_(path.string()) {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.number() < 0) fail_at(name_, 0, std::strerror(errno));
    struct stat status = {};
    if (::fstat(file.number(), &status) != 0) fail_at(name_, 0, std::strerror(errno));
    if (!S_ISREG(status.st_mode)) fail_at(name_, 0, "not a regular file");
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ == 0) return;
    void* const data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number(), 0);
    if (data == MAP_FAILED) fail_at(name_, 0, std::strerror(errno));
    data_ = static_cast<const std::byte*>(data);
  }
  MappedFile(MappedFile&& other) noexcept
      : name_(std::move(other.name_)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile() {
    if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
  }

  const std::string& name() const { return name_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// Gives the memory of the pages under `part` back; they are read again if touched again.
  void forget(std::span<const std::byte> part) const {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const auto begin = static_cast<std::size_t>(part.data() - data_) / page * page;
    const auto end = static_cast<std::size_t>(part.data() + part.size() - data_);
    if (end > begin) {
      ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
    }
  }

 private:
  std::string name_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A new file.
class OutputFile {
 public:
  /// Throws std::runtime_error, also if the file exists.
  explicit OutputFile(const std::filesystem::path& path)
      : name_(path.string()),
        file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) {
    if (file_.number() < 0) fail_at(name_, 0, std::strerror(errno));
  }

  /// Throws std::runtime_error that names the byte where the disk was full.
  void write(std::uint64_t at, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t count =
          ::pwrite(file_.number(), bytes.data(), bytes.size(), static_cast<off_t>(at));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) {
        fail_at(name_, at,
                "cannot write " + std::to_string(bytes.size()) +
                    " bytes: " + (count == 0 ? "nothing was taken" : std::strerror(errno)));
      }
      bytes = bytes.subspan(static_cast<std::size_t>(count));
      at += static_cast<std::uint64_t>(count);
    }
  }

  /// Everything is on the disk when this returns. Throws std::runtime_error.
  void close() {
    if (::fsync(file_.number()) != 0 || ::close(file_.release()) != 0) {
      fail_at(name_, 0, std::string("cannot finish the file: ") + std::strerror(errno));
    }
  }

 private:
  std::string name_;
  FileDescriptor file_;
};

}  // namespace gqa::examples
