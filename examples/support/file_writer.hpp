// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Files of numbers, written whole: what a reader finds under a name is never half of one.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "support/output_file.hpp"

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

  /// Throws std::runtime_error if that cannot be done: an existing file is then as it was.
  void write(const std::filesystem::path& path) const { replace_file(path, {bytes()}); }

 private:
  std::string bytes_;
};

}  // namespace gqa::examples
