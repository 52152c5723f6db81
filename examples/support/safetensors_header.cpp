// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "support/safetensors_header.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "support/json.hpp"

namespace gqa::examples {
namespace {

/// Reads a header's text and checks it against the data that follows.
class HeaderReader {
 public:
  HeaderReader(std::string file, std::string_view text, std::span<const std::byte> data)
      : file_(std::move(file)),
        text_(text),
        data_(data),
        data_begin_(SafeTensorsHeader::length_bytes + text.size()) {
    read();
  }

  std::map<std::string, FileTensor> tensors;
  std::map<std::string, std::string> metadata;

 private:
  static constexpr std::size_t length_bytes = SafeTensorsHeader::length_bytes;
  using Json = OrderedJson;

  void read() {
    const Json header = parse();
    if (!header.is_object()) fail_at(file_, length_bytes, "the header isn't a JSON object");
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        read_metadata(entry);
      } else {
        tensors.emplace(name, read_entry(name, entry));
      }
    }
    check_cover();
    check_booleans();
  }

  /// A header with one name twice is malformed, and the format nests objects and arrays three deep.
  Json parse() const {
    return parse_json(
        text_, file_, length_bytes,
        {.max_depth = 4, .pythons_numbers = false, .unique_names = true, .what = "the header"});
  }

  /// Where in the file the header spells this name (for messages: a name spelled with escapes isn't
  /// found, and gives the header's first byte).
  std::uint64_t byte_of(const std::string& name) const {
    const auto at = text_.find('"' + name + '"');
    return length_bytes + (at == std::string_view::npos ? 0 : at);
  }

  void read_metadata(const Json& entry) {
    const std::uint64_t byte = byte_of("__metadata__");
    if (!entry.is_object()) fail_at(file_, byte, "__metadata__ isn't an object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail_at(file_, byte, "metadata \"" + key + "\" isn't a string");
      metadata.emplace(key, value.get<std::string>());
    }
  }

  FileTensor read_entry(const std::string& name, const Json& entry) const {
    const auto fail = [&](const std::string& what) {
      fail_at(file_, byte_of(name), "tensor \"" + name + "\": " + what);
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
    std::uint64_t expected = bits_of(tensor.dtype);
    bool empty = false;
    for (const Json& n : entry["shape"]) {
      const auto size = whole_number(n);
      if (!size) fail("a size of its shape is " + n.dump() + ", not a whole number");
      tensor.shape.push_back(static_cast<std::int64_t>(*size));
      if (*size == 0) {
        empty = true;
      } else if (expected > std::numeric_limits<std::uint64_t>::max() / *size) {
        fail("shape " + entry["shape"].dump() + " has more elements than 64 bits count");
      } else {
        expected *= *size;
      }
    }
    if (empty) expected = 0;
    if (expected % 8 != 0) {
      fail("shape " + entry["shape"].dump() + " in " + dtype + " takes " +
           std::to_string(expected) + " bits, which aren't whole bytes");
    }
    expected /= 8;

    const Json& offsets = entry["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2) fail("data_offsets isn't a pair");
    const auto begin = whole_number(offsets[0]), end = whole_number(offsets[1]);
    if (!begin || !end) fail("data_offsets " + offsets.dump() + " aren't two whole numbers");
    if (*begin > *end || *end > data_.size()) {
      fail("data_offsets " + offsets.dump() + " lie outside of the " +
           std::to_string(data_.size()) + " bytes of data");
    }
    tensor.byte = data_begin_ + *begin;
    if (*end - *begin != expected) {
      fail_at(file_, tensor.byte,
              describe(name, tensor) + " needs " + std::to_string(expected) +
                  " bytes, its data_offsets give " + std::to_string(*end - *begin));
    }
    tensor.bytes =
        data_.subspan(static_cast<std::size_t>(*begin), static_cast<std::size_t>(*end - *begin));
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
  void check_cover() const {
    std::vector<std::pair<const FileTensor*, const std::string*>> order;
    for (const auto& [name, tensor] : tensors) order.emplace_back(&tensor, &name);
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
      return std::pair(a.first->byte, a.first->bytes.size()) <
             std::pair(b.first->byte, b.first->bytes.size());
    });
    std::uint64_t covered = data_begin_;
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
    const std::uint64_t end = data_begin_ + data_.size();
    if (covered != end) {
      fail_at(file_, covered,
              "no tensor owns the last " + std::to_string(end - covered) + " bytes");
    }
  }

  /// A bool that is neither 0 nor 1 would be undefined behaviour to read.
  void check_booleans() const {
    for (const auto& [name, tensor] : tensors) {
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
  std::string_view text_;
  std::span<const std::byte> data_;
  std::uint64_t data_begin_;
};

}  // namespace

std::uint64_t SafeTensorsHeader::checked_bytes(const std::string& file, const std::byte* bytes,
                                               std::uint64_t file_bytes) {
  constexpr std::uint64_t max_header_bytes = 100'000'000;
  if (file_bytes < length_bytes) {
    fail_at(file, 0,
            "a safetensors file begins with 8 bytes, this one has " + std::to_string(file_bytes));
  }
  std::uint64_t n;
  std::memcpy(&n, bytes, sizeof(n));
  if (n > file_bytes - length_bytes) {
    fail_at(file, 0,
            "the header says it has " + std::to_string(n) + " bytes, but only " +
                std::to_string(file_bytes - length_bytes) + " follow");
  }
  if (n > max_header_bytes) {
    fail_at(file, 0,
            "a header of " + std::to_string(n) + " bytes is above the limit of " +
                std::to_string(max_header_bytes));
  }
  return n;
}

SafeTensorsHeader::SafeTensorsHeader(std::string file, std::string_view text,
                                     std::span<const std::byte> data) {
  HeaderReader reader(std::move(file), text, data);
  tensors = std::move(reader.tensors);
  metadata = std::move(reader.metadata);
}

}  // namespace gqa::examples
