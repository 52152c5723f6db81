// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Files larger than memory (POSIX): read through a map, of which pages can be given back as soon as
// they have been used.
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
#include "support/output_file.hpp"

namespace gqa::examples {

/// The bytes of a regular file, read when touched.
class MappedFile {
 public:
  /// Throws std::runtime_error if there is no such regular file or it cannot be read.
  explicit MappedFile(const std::filesystem::path& path) : name_(path.string()) {
    // Without O_NONBLOCK, to open a pipe is to wait for a writer.
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
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

}  // namespace gqa::examples
