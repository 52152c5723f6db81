// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Reading safetensors files (https://github.com/huggingface/safetensors): 8 bytes with the length n
// of a JSON header, n bytes of JSON that give each tensor's dtype, shape and place, then the
// tensors. A file that breaks a rule is refused as a whole. safetensors_writer.hpp writes such
// files.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/binary_file.hpp"
#include "support/dtype.hpp"
#include "support/safetensors_header.hpp"

namespace gqa::examples {

/// A safetensors file in memory.
class SafeTensors {
 public:
  /// Reads the whole file. Throws std::runtime_error, naming the file and the byte, if it isn't a
  /// valid safetensors file.
  explicit SafeTensors(const std::filesystem::path& path) {
    BinaryFile file(path);
    file_ = file.name();
    std::byte length[length_bytes];
    file.read(0, length, std::min<std::uint64_t>(length_bytes, file.size()));
    const std::uint64_t header_bytes = SafeTensorsHeader::checked_bytes(file_, length, file.size());
    std::string header(static_cast<std::size_t>(header_bytes), '\0');
    file.read(length_bytes, reinterpret_cast<std::byte*>(header.data()), header_bytes);
    data_ = file.read_rest(length_bytes + header_bytes);
    read_header(header);
  }

  /// The same from bytes in memory, which are copied; `name` stands for the file in errors.
  SafeTensors(std::span<const std::byte> bytes, std::string name) : file_(std::move(name)) {
    const auto header_bytes = static_cast<std::size_t>(
        SafeTensorsHeader::checked_bytes(file_, bytes.data(), bytes.size()));
    const auto data = bytes.subspan(length_bytes + header_bytes);
    data_ = AlignedBytes(data.size());
    if (!data.empty()) std::memcpy(data_.data(), data.data(), data.size());
    read_header({reinterpret_cast<const char*>(bytes.data()) + length_bytes, header_bytes});
  }

  const std::string& file() const { return file_; }
  /// The strings under "__metadata__".
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// In alphabetical order.
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }
  bool contains(const std::string& name) const { return tensors_.contains(name); }

  /// Throws std::runtime_error if the file has no such tensor.
  const FileTensor& tensor(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      fail_at(file_, length_bytes, "no tensor named \"" + name + "\" in the header");
    }
    return found->second;
  }
  const std::vector<std::int64_t>& shape(const std::string& name) const {
    return tensor(name).shape;
  }

  /// The elements in place. Throws std::runtime_error unless the dtype is exactly that of T and the
  /// tensor begins at a multiple of sizeof(T) in the data section (writers see to that).
  template <FileElement T>
  std::span<const T> values(const std::string& name) const {
    const FileTensor& found = tensor(name);
    if (found.dtype != dtype_of<T>()) {
      fail_at(file_, found.byte,
              describe(name, found) + " isn't " + std::string(name_of(dtype_of<T>())));
    }
    if (reinterpret_cast<std::uintptr_t>(found.bytes.data()) % alignof(T) != 0) {
      fail_at(file_, found.byte, describe(name, found) + " isn't aligned: convert<T>() copies it");
    }
    return {reinterpret_cast<const T*>(found.bytes.data()), found.size()};
  }

  /// A copy of the elements as To, from whatever the file holds; false and true become 0 and 1.
  /// Integers take neither floating-point tensors nor what is outside of their range, and nothing
  /// takes a dtype that C++ has no type for: std::runtime_error.
  template <FileElement To>
  std::vector<To> convert(const std::string& name) const {
    const FileTensor& found = tensor(name);
    std::vector<To> result(found.size());
    with_type_of(found.dtype, [&]<typename From>(From) {
      if constexpr (std::same_as<From, NotReadable>) {
        fail_at(file_, found.byte, describe(name, found) + " is of a type that isn't read here");
      } else if constexpr (std::is_integral_v<To> && !std::is_integral_v<From>) {
        fail_at(file_, found.byte, describe(name, found) + " doesn't convert to whole numbers");
      } else {
        for (std::size_t i = 0; i < result.size(); ++i) {
          From value;
          std::memcpy(&value, found.bytes.data() + i * sizeof(From), sizeof(From));
          if constexpr (std::is_integral_v<To> && !std::same_as<From, bool>) {
            if (!fits<To>(value)) {
              fail_at(file_, found.byte + i * sizeof(From),
                      describe(name, found) + " holds " + std::to_string(value) +
                          ", which is outside of " + std::string(name_of(dtype_of<To>())));
            }
          }
          if constexpr (std::is_arithmetic_v<From> || std::same_as<To, float>) {
            result[i] = static_cast<To>(value);
          } else {  // Eigen's 16-bit types convert by way of float
            result[i] = static_cast<To>(static_cast<float>(value));
          }
        }
      }
    });
    return result;
  }
  std::vector<float> to_float(const std::string& name) const { return convert<float>(name); }
  std::vector<double> to_double(const std::string& name) const { return convert<double>(name); }
  std::vector<std::int64_t> to_int64(const std::string& name) const {
    return convert<std::int64_t>(name);
  }

 private:
  static constexpr std::size_t length_bytes = SafeTensorsHeader::length_bytes;

  template <typename To, typename From>
  static bool fits(From value) {
    if constexpr (std::same_as<To, bool>) {
      return value == 0 || value == 1;
    } else {
      return std::in_range<To>(value);
    }
  }

  void read_header(std::string_view text) {
    SafeTensorsHeader header(file_, text, data_.span());
    tensors_ = std::move(header.tensors);
    metadata_ = std::move(header.metadata);
  }

  std::string file_;
  AlignedBytes data_;
  std::map<std::string, FileTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace gqa::examples
