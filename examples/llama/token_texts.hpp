// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Texts as token ids, in JSON: {"tokens": [[1, 5, 9], [1, 2]]}.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/json.hpp"

namespace gqa::examples {

/// Throws std::runtime_error, naming the file, for anything but lists of whole numbers from 0 to
/// vocab_size - 1.
inline std::vector<std::vector<std::int32_t>> read_token_texts(const std::filesystem::path& path,
                                                               std::int64_t vocab_size) {
  const OrderedJson json = read_json(path);
  const auto fail = [&](const std::string& what) {
    throw std::runtime_error(path.string() + ": " + what);
  };
  if (!json.contains("tokens") || !json["tokens"].is_array()) fail("has no list named \"tokens\"");
  std::vector<std::vector<std::int32_t>> texts;
  for (const OrderedJson& text : json["tokens"]) {
    if (!text.is_array()) fail("text " + std::to_string(texts.size()) + " isn't a list");
    auto& tokens = texts.emplace_back();
    for (const OrderedJson& token : text) {
      if (!token.is_number_integer()) fail("token " + json_text(token) + " isn't a whole number");
      // Unsigned: a negative number is a large one.
      const auto id = token.get<std::uint64_t>();
      if (id >= static_cast<std::uint64_t>(vocab_size) ||
          id > std::uint64_t(std::numeric_limits<std::int32_t>::max())) {
        fail("token " + token.dump() + " is outside of a vocabulary of " +
             std::to_string(vocab_size));
      }
      tokens.push_back(static_cast<std::int32_t>(id));
    }
  }
  return texts;
}

}  // namespace gqa::examples
