// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Writing files (POSIX): a new one, or one that takes the place of another once it is complete.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "support/binary_file.hpp"
#include "support/signals.hpp"

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

/// A new file.
class OutputFile {
 public:
  /// Throws std::runtime_error, also if something has that name, be it a link.
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

/// A name beside `path` for what takes the name `path` once it is complete. Nobody can know it
/// beforehand: so it is neither another's file nor a link that waits there.
inline std::filesystem::path partial_name(const std::filesystem::path& path) {
  std::random_device random;
  char end[32];
  std::snprintf(end, sizeof end, ".partial-%08x%08x", random(), random());
  constexpr std::size_t longest = 200;  // names have 255 bytes at most
  return path.parent_path() / (path.filename().string().substr(0, longest) + end);
}

/// Writes `parts`, one after the other, into a file that then takes the name `path`, and with it
/// the place of a file or link that had it. Throws std::runtime_error if that cannot be done:
/// `path` is then as it was, and nothing is beside it. A signal that would end the program waits
/// until then.
inline void replace_file(const std::filesystem::path& path,
                         std::span<const std::span<const std::byte>> parts) {
  // The last step renames onto `path`: that must not replace a device or a folder.
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    throw std::runtime_error(path.string() + ": not a regular file");
  }
  std::uint64_t size = 0;
  for (const auto part : parts) size += part.size();
  const std::string failed = path.string() + ": cannot write " + std::to_string(size) + " bytes: ";

  const std::filesystem::path partial = partial_name(path);
  const HeldSignals held;
  bool created = false;
  try {
    OutputFile file(partial);
    created = true;
    std::uint64_t at = 0;
    for (const auto part : parts) {
      file.write(at, part);
      at += part.size();
    }
    file.close();
    std::filesystem::rename(partial, path);
  } catch (const std::runtime_error& reason) {
    if (created) std::filesystem::remove(partial, error);
    throw std::runtime_error(failed + reason.what());
  }
}
inline void replace_file(const std::filesystem::path& path,
                         std::initializer_list<std::span<const std::byte>> parts) {
  replace_file(path, std::span(parts.begin(), parts.size()));
}

/// Throws std::runtime_error if `output`, to be written, is the file `input`, whatever the names or
/// links by which both are reached.
inline void check_not_input(const std::filesystem::path& output,
                            const std::filesystem::path& input) {
  std::error_code ignored;  // neither need exist
  if (std::filesystem::equivalent(output, input, ignored)) {
    throw std::runtime_error(output.string() + ": is the input, " + input.string() +
                             ", which would be lost");
  }
}

}  // namespace gqa::examples
