// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Files of numbers, written whole: what a reader finds under a name is never half of one.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

namespace gqa::examples {

/// Collects bytes, little-endian as the machine, for binary_file.hpp's readers.
class FileWriter {
 public:
  template <typename T>
    requires std::is_arithmetic_v<T>
  void put(T value) {
    put(std::span<const T>(&value, 1));
  }

  template <typename T>
  void put(std::span<const T> values) {
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  }
  void put(std::string_view text) { bytes_ += text; }

  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(bytes_)); }

  /// Under a temporary name first, which then becomes `path`. Throws std::runtime_error if that
  /// cannot be done: an existing file is then as it was.
  void write(const std::filesystem::path& path) const {
    // The last step renames onto `path`: that must not replace a device or a folder.
    if (std::filesystem::exists(path) && !std::filesystem::is_regular_file(path)) {
      throw std::runtime_error(path.string() + ": not a regular file");
    }
    std::filesystem::path partial = path;
    partial += ".partial";
    std::ofstream out(partial, std::ios::binary | std::ios::trunc);
    out.write(bytes_.data(), static_cast<std::streamsize>(bytes_.size()));
    out.close();
    std::error_code error;
    if (out) std::filesystem::rename(partial, path, error);
    if (!out || error) {
      std::error_code ignored;
      std::filesystem::remove(partial, ignored);
      throw std::runtime_error(path.string() + ": cannot write " + std::to_string(bytes_.size()) +
                               " bytes" + (error ? ": " + error.message() : ""));
    }
  }

 private:
  std::string bytes_;
};

}  // namespace gqa::examples
