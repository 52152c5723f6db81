// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Reading JSON that comes from somewhere else, and writing it again. How deep it nests and how long
// it is are bounded before anything is built: the library's values are freed and written by
// recursion, of which a file must not decide the depth. Numbers and strings are the library's; what
// stands around them is read here, since Python writes Infinity and NaN, which JSON doesn't have.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace gqa::examples {

using OrderedJson = nlohmann::ordered_json;  // keeps the order of the file

/// What a reader puts up with.
struct JsonRules {
  int max_depth = 64;                     ///< of objects and arrays in each other
  std::uint64_t max_bytes = 100'000'000;  ///< as the header of a safetensors file may have
  bool pythons_numbers = true;            ///< Infinity, -Infinity and NaN
  bool unique_names = false;              ///< or else the last of two equal names counts
  const char* what = "the file";          ///< in messages: "… isn't valid JSON"
};

/// The value that `text`, which begins at `first_byte` of `file`, spells from end to end. Throws
/// std::runtime_error that names the file and the byte.
OrderedJson parse_json(std::string_view text, const std::string& file, std::uint64_t first_byte = 0,
                       const JsonRules& rules = {});

/// The object in a regular file. Throws std::runtime_error that names the file and the byte,
/// counted from 1 as editors count in text.
OrderedJson read_json(const std::filesystem::path& path, const JsonRules& rules = {});

/// As Python's json.dumps(value, indent=2) writes it.
std::string json_text(const OrderedJson& value);

}  // namespace gqa::examples
