// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Reading safetensors files (https://github.com/huggingface/safetensors): 8 bytes with the length n
// of a JSON header, n bytes of JSON that give each tensor's dtype, shape and place, then the
// tensors. A file comes from somewhere else, so all of it is checked before any of it is used: the
// tensors must cover the data section exactly, without overlap and without holes, as the format
// demands. safetensors_writer.hpp writes such files.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/binary_file.hpp"
#include "support/dtype.hpp"

namespace gqa::examples {

/// One tensor of a SafeTensors file, which must outlive it.
struct FileTensor {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;   ///< outer to inner; empty is a scalar
  std::span<const std::byte> bytes;  ///< row-major, little-endian
  std::uint64_t byte = 0;            ///< where they begin in the file

  std::size_t size() const { return bytes.size() / bytes_of(dtype); }
};

/// "[2, 3, 8]"
inline std::string to_string(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}

/// A safetensors file in memory.
class SafeTensors {
 public:
  /// Reads the whole file. Throws std::runtime_error, naming the file and the byte, if it isn't a
  /// valid safetensors file.
  explicit SafeTensors(const std::filesystem::path& path) {
    BinaryFile file(path);
    file_ = file.name();
    std::byte length[length_bytes];
    if (file.size() < length_bytes) {
      fail_at(
          file_, 0,
          "a safetensors file begins with 8 bytes, this one has " + std::to_string(file.size()));
    }
    file.read(0, length, length_bytes);
    const std::uint64_t header_bytes = checked_header_bytes(length, file.size());
    std::string header(static_cast<std::size_t>(header_bytes), '\0');
    file.read(length_bytes, reinterpret_cast<std::byte*>(header.data()), header_bytes);
    data_ = file.read_rest(length_bytes + header_bytes);
    read_header(header);
  }

  /// The same from bytes in memory, which are copied; `name` stands for the file in errors.
  SafeTensors(std::span<const std::byte> bytes, std::string name) : file_(std::move(name)) {
    if (bytes.size() < length_bytes) {
      fail_at(
          file_, 0,
          "a safetensors file begins with 8 bytes, this one has " + std::to_string(bytes.size()));
    }
    const auto header_bytes =
        static_cast<std::size_t>(checked_header_bytes(bytes.data(), bytes.size()));
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
  /// Integers take neither floating-point tensors nor what is outside of their range:
  /// std::runtime_error.
  template <FileElement To>
  std::vector<To> convert(const std::string& name) const {
    const FileTensor& found = tensor(name);
    std::vector<To> result(found.size());
    with_type_of(found.dtype, [&]<typename From>(From) {
      if constexpr (std::is_integral_v<To> && !std::is_integral_v<From>) {
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
  using Json = nlohmann::json;
  static constexpr std::size_t length_bytes = 8;
  /// The limit of the reference implementation: nobody needs more, and no header may make us
  /// allocate more.
  static constexpr std::uint64_t max_header_bytes = 100'000'000;

  std::uint64_t checked_header_bytes(const std::byte* bytes, std::uint64_t file_bytes) const {
    std::uint64_t n;
    std::memcpy(&n, bytes, sizeof(n));
    if (n > file_bytes - length_bytes) {
      fail_at(file_, 0,
              "the header says it has " + std::to_string(n) + " bytes, but only " +
                  std::to_string(file_bytes - length_bytes) + " follow");
    }
    if (n > max_header_bytes) {
      fail_at(file_, 0,
              "a header of " + std::to_string(n) + " bytes is above the limit of " +
                  std::to_string(max_header_bytes));
    }
    return n;
  }

  template <typename To, typename From>
  static bool fits(From value) {
    if constexpr (std::same_as<To, bool>) {
      return value == 0 || value == 1;
    } else {
      return std::in_range<To>(value);
    }
  }

  static std::string describe(const std::string& name, const FileTensor& tensor) {
    return "tensor \"" + name + "\" (" + std::string(name_of(tensor.dtype)) + " " +
           to_string(tensor.shape) + ")";
  }

  void read_header(std::string_view text) {
    const std::uint64_t data_begin = length_bytes + text.size();
    const Json header = parse(text);
    if (!header.is_object()) fail_at(file_, length_bytes, "the header isn't a JSON object");
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        read_metadata(text, entry);
      } else {
        tensors_.emplace(name, read_entry(text, name, entry, data_begin));
      }
    }
    check_cover(data_begin);
    check_booleans();
  }

  /// nlohmann's DOM keeps the last of two equal keys; a file with both is malformed, so they are
  /// caught on the way. Depth is bounded too: the format nests objects and arrays two deep.
  Json parse(std::string_view text) const {
    // The parser would take a zero byte for the end, and what follows it for nothing.
    if (const auto zero = text.find('\0'); zero != std::string_view::npos) {
      fail_at(file_, length_bytes + zero, "the header isn't valid JSON: a zero byte");
    }
    std::vector<std::set<std::string>> keys;
    const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
      if (depth > 4) fail_at(file_, length_bytes, "the header's JSON is nested too deeply");
      if (event == Json::parse_event_t::object_start) keys.emplace_back();
      if (event == Json::parse_event_t::object_end) keys.pop_back();
      if (event == Json::parse_event_t::key) {
        const auto& key = value.template get_ref<const std::string&>();
        if (!keys.back().insert(key).second) {
          fail_at(file_, byte_of_last(text, key), "the name \"" + key + "\" appears twice");
        }
      }
      return true;
    };
    try {
      return Json::parse(text.begin(), text.end(), watch);
    } catch (const Json::parse_error& error) {
      // error.byte counts from 1
      fail_at(file_, length_bytes + (error.byte > 0 ? error.byte - 1 : 0),
              std::string("the header isn't valid JSON: ") + error.what());
    }
  }

  /// Where in the file the header spells this name (for messages: a name spelled with escapes isn't
  /// found, and gives the header's first byte).
  static std::uint64_t byte_of(std::string_view text, const std::string& name) {
    const auto at = text.find('"' + name + '"');
    return length_bytes + (at == std::string_view::npos ? 0 : at);
  }
  static std::uint64_t byte_of_last(std::string_view text, const std::string& name) {
    const auto at = text.rfind('"' + name + '"');
    return length_bytes + (at == std::string_view::npos ? 0 : at);
  }

  void read_metadata(std::string_view text, const Json& entry) {
    const std::uint64_t byte = byte_of(text, "__metadata__");
    if (!entry.is_object()) fail_at(file_, byte, "__metadata__ isn't an object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail_at(file_, byte, "metadata \"" + key + "\" isn't a string");
      metadata_.emplace(key, value.get<std::string>());
    }
  }

  FileTensor read_entry(std::string_view text, const std::string& name, const Json& entry,
                        std::uint64_t data_begin) const {
    const auto fail = [&](const std::string& what) {
      fail_at(file_, byte_of(text, name), "tensor \"" + name + "\": " + what);
    };
    if (!entry.is_object()) fail("isn't an object");
    for (const char* field : {"dtype", "shape", "data_offsets"}) {
      if (!entry.contains(field)) fail(std::string("has no ") + field);
    }
    for (const auto& [field, value] : entry.items()) {
      if (field != "dtype" && field != "shape" && field != "data_offsets") {
        fail("has an unknown field \"" + field + "\"");
      }
    }

    FileTensor tensor;
    if (!entry["dtype"].is_string()) fail("dtype isn't a string");
    const auto& dtype = entry["dtype"].get_ref<const std::string&>();
    if (!dtype_named(dtype)) fail("unknown dtype \"" + dtype + "\"");
    tensor.dtype = *dtype_named(dtype);

    if (!entry["shape"].is_array()) fail("shape isn't an array");
    std::uint64_t expected = bytes_of(tensor.dtype);
    bool empty = false;
    for (const Json& n : entry["shape"]) {
      const auto size = whole_number(n);
      if (!size) fail("a size of its shape is " + n.dump() + ", not a whole number");
      tensor.shape.push_back(static_cast<std::int64_t>(*size));
      if (*size == 0) {
        empty = true;
      } else if (expected > std::uint64_t(std::numeric_limits<std::int64_t>::max()) / *size) {
        fail("shape " + entry["shape"].dump() + " has more elements than 64 bits count");
      } else {
        expected *= *size;
      }
    }
    if (empty) expected = 0;

    const Json& offsets = entry["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2) fail("data_offsets isn't a pair");
    const auto begin = whole_number(offsets[0]), end = whole_number(offsets[1]);
    if (!begin || !end) fail("data_offsets " + offsets.dump() + " aren't two whole numbers");
    if (*begin > *end || *end > data_.size()) {
      fail("data_offsets " + offsets.dump() + " lie outside of the " +
           std::to_string(data_.size()) + " bytes of data");
    }
    tensor.byte = data_begin + *begin;
    if (*end - *begin != expected) {
      fail_at(file_, tensor.byte,
              describe(name, tensor) + " needs " + std::to_string(expected) +
                  " bytes, its data_offsets give " + std::to_string(*end - *begin));
    }
    tensor.bytes = data_.span().subspan(static_cast<std::size_t>(*begin),
                                        static_cast<std::size_t>(*end - *begin));
    return tensor;
  }

  /// A JSON number from 0 to 2^63 - 1, written as an integer.
  static std::optional<std::uint64_t> whole_number(const Json& value) {
    if (!value.is_number_unsigned()) return std::nullopt;
    const auto n = value.get<std::uint64_t>();
    if (n > std::uint64_t(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
    return n;
  }

  /// Each byte of the data section belongs to exactly one tensor.
  void check_cover(std::uint64_t data_begin) const {
    std::vector<std::pair<const FileTensor*, const std::string*>> order;
    for (const auto& [name, tensor] : tensors_) order.emplace_back(&tensor, &name);
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
      return std::pair(a.first->byte, a.first->bytes.size()) <
             std::pair(b.first->byte, b.first->bytes.size());
    });
    std::uint64_t covered = data_begin;
    for (const auto& [tensor, name] : order) {
      if (tensor->byte < covered) {
        fail_at(file_, tensor->byte,
                describe(*name, *tensor) + " overlaps the one before it, which ends at byte " +
                    std::to_string(covered));
      }
      if (tensor->byte > covered) {
        fail_at(file_, covered,
                "no tensor owns the " + std::to_string(tensor->byte - covered) + " bytes before " +
                    describe(*name, *tensor));
      }
      covered += tensor->bytes.size();
    }
    const std::uint64_t end = data_begin + data_.size();
    if (covered != end) {
      fail_at(file_, covered,
              "no tensor owns the last " + std::to_string(end - covered) + " bytes");
    }
  }

  /// A bool that is neither 0 nor 1 would be undefined behaviour to read.
  void check_booleans() const {
    for (const auto& [name, tensor] : tensors_) {
      if (tensor.dtype != DType::boolean) continue;
      for (std::size_t i = 0; i < tensor.bytes.size(); ++i) {
        const int value = std::to_integer<int>(tensor.bytes[i]);
        if (value > 1) {
          fail_at(file_, tensor.byte + i,
                  describe(name, tensor) + " holds " + std::to_string(value) + ", neither 0 nor 1");
        }
      }
    }
  }

  std::string file_;
  AlignedBytes data_;
  std::map<std::string, FileTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace gqa::examples
