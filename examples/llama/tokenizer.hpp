// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The tokenizer of llama2.c (tok*.bin): byte-pair encoding in SentencePiece's manner. The file is
// int32 max_token_length, then for each token float32 score, int32 length, bytes. Tokens 0, 1, 2
// are unknown, begin and end of sequence; 3 to 258 are the bytes, spelled <0x00> to <0xFF>.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "support/binary_file.hpp"
#include "support/file_writer.hpp"

namespace gqa::examples {

/// Splits text into tokens and puts them together again, as llama2.c's run.c does.
class Tokenizer {
 public:
  using Token = std::int32_t;
  static constexpr Token begin_of_sequence = 1;
  static constexpr Token end_of_sequence = 2;
  static constexpr Token first_byte = 3;  ///< the token of byte 0

  /// Throws std::runtime_error, naming the file and the byte, unless the file holds exactly
  /// `vocab_size` well-formed tokens.
  Tokenizer(const std::filesystem::path& path, std::int64_t vocab_size) {
    BinaryFile file(path);
    const AlignedBytes bytes = file.read_rest();
    ByteCursor cursor(bytes.span(), file.name());
    if (vocab_size < first_byte + 256) {
      cursor.fail("a vocabulary of " + std::to_string(vocab_size) +
                  " has no room for 3 special tokens and 256 bytes");
    }
    const auto max_token_length = cursor.take<std::int32_t>("max_token_length");
    for (std::int64_t token = 0; token < vocab_size; ++token) {
      const std::string what =
          "token " + std::to_string(token) + " of " + std::to_string(vocab_size);
      const auto score = cursor.take<float>(what);
      if (!std::isfinite(score)) cursor.fail("the score of " + what + " isn't finite", 4);
      const auto length = cursor.take<std::int32_t>(what);
      if (length < 0 || length > max_token_length) {
        cursor.fail("the length of " + what + " is " + std::to_string(length) +
                        ", not between 0 and max_token_length " + std::to_string(max_token_length),
                    4);
      }
      const auto text = cursor.take_bytes(static_cast<std::uint64_t>(length), what);
      pieces_.push_back({{reinterpret_cast<const char*>(text.data()), text.size()}, score});
    }
    if (cursor.remaining() != 0) {
      cursor.fail(std::to_string(cursor.remaining()) + " bytes follow the last of " +
                  std::to_string(vocab_size) + " tokens: is this the model's own tokenizer?");
    }
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      token_of_.emplace(pieces_[i].text, static_cast<Token>(i));  // of equal pieces, the first
    }
    space_ = find(" ");
    if (space_ < 0) cursor.fail("the vocabulary has no space, with which every text begins");
  }

  std::int64_t vocab_size() const { return std::int64_t(pieces_.size()); }

  /// The begin-of-sequence token, then the text's. A text that isn't empty is given a space in
  /// front, as in training.
  std::vector<Token> encode(std::string_view text) const {
    std::vector<Token> tokens = {begin_of_sequence};
    if (text.empty()) return tokens;
    tokens.push_back(space_);
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t length = character_length(text.substr(i));
      const Token token = find(text.substr(i, length));
      if (token >= 0) {
        tokens.push_back(token);
      } else {  // not in the vocabulary: byte by byte
        for (const char c : text.substr(i, length)) {
          tokens.push_back(first_byte + static_cast<unsigned char>(c));
        }
      }
      i += length;
    }
    merge_pairs(tokens);
    return tokens;
  }

  /// The bytes that `token` adds to a text in which it follows `previous`. The space that encode()
  /// puts in front is taken away again; a byte token gives its one byte.
  /// Throws std::out_of_range if there is no such token.
  std::string decode(Token previous, Token token) const {
    if (token < 0 || token >= vocab_size()) {
      throw std::out_of_range("token " + std::to_string(token) + " is outside of a vocabulary of " +
                              std::to_string(vocab_size()));
    }
    std::string_view piece = pieces_[static_cast<std::size_t>(token)].text;
    if (previous == begin_of_sequence && piece.starts_with(' ')) piece.remove_prefix(1);
    if (piece.size() == 6 && piece.starts_with("<0x") && piece.ends_with('>')) {
      const int high = hex_digit(piece[3]), low = hex_digit(piece[4]);
      if (high >= 0 && low >= 0) return {static_cast<char>(high * 16 + low)};
    }
    return std::string(piece);
  }

  /// The text that `tokens` continue after their first one, which is usually begin of sequence.
  std::string decode(std::span<const Token> tokens) const {
    std::string text;
    for (std::size_t i = 1; i < tokens.size(); ++i) text += decode(tokens[i - 1], tokens[i]);
    return text;
  }

 private:
  struct Piece {
    std::string text;
    float score;
  };

  /// -1 if the vocabulary has no such piece.
  Token find(std::string_view text) const {
    const auto found = token_of_.find(std::string(text));
    return found == token_of_.end() ? -1 : found->second;
  }

  /// A byte and the UTF-8 continuation bytes after it, four in all at most (malformed text too).
  static std::size_t character_length(std::string_view text) {
    std::size_t length = 1;
    while (length < 4 && length < text.size() && (text[length] & 0xC0) == 0x80) ++length;
    return length;
  }

  static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  }

  /// Joins the neighbours whose union has the best score (the leftmost of equals), until none is in
  /// the vocabulary.
  void merge_pairs(std::vector<Token>& tokens) const {
    for (;;) {
      float best_score = -1e10F;
      std::size_t best = tokens.size();
      Token best_token = -1;
      for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
        const Token token = find(piece(tokens[i]) + piece(tokens[i + 1]));
        if (token >= 0 && pieces_[static_cast<std::size_t>(token)].score > best_score) {
          best_score = pieces_[static_cast<std::size_t>(token)].score;
          best = i;
          best_token = token;
        }
      }
      if (best_token < 0) return;
      tokens[best] = best_token;
      tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
  }

  const std::string& piece(Token token) const {
    return pieces_[static_cast<std::size_t>(token)].text;
  }

  std::vector<Piece> pieces_;
  std::unordered_map<std::string, Token> token_of_;
  Token space_ = -1;
};

/// How many tokens a tokenizer has, where no model says it: all that its file holds. Throws
/// std::runtime_error.
inline std::int64_t count_tokens(const std::filesystem::path& path) {
  BinaryFile file(path);
  const AlignedBytes bytes = file.read_rest();
  ByteCursor cursor(bytes.span(), file.name());
  cursor.take<std::int32_t>("max_token_length");
  std::int64_t count = 0;
  for (; cursor.remaining() > 0; ++count) {
    cursor.take<float>("a token");
    const auto length = cursor.take<std::int32_t>("a token");
    if (length < 0) cursor.fail("a token's length is " + std::to_string(length), 4);
    cursor.take_bytes(static_cast<std::uint64_t>(length), "a token");
  }
  return count;
}

/// Tokens that are bytes and no more, for models that learn a text byte by byte: 3 special ones,
/// then 256.
inline constexpr std::int64_t byte_vocab_size = Tokenizer::first_byte + 256;

/// Writes their tokenizer. Printable bytes are spelled as themselves, which readers look for first.
/// Throws std::runtime_error.
inline void write_byte_tokenizer(const std::filesystem::path& path) {
  FileWriter file;
  file.put(std::int32_t(6));  // max_token_length
  const auto put = [&](std::string_view text) {
    file.put(0.0F);  // score
    file.put(static_cast<std::int32_t>(text.size()));
    file.put(text);
  };
  put("<unk>");
  put("<s>");
  put("</s>");
  for (int byte = 0; byte < 256; ++byte) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    const auto high = static_cast<std::size_t>(byte / 16),
               low = static_cast<std::size_t>(byte % 16);
    if (byte >= 0x20 && byte < 0x7F) {
      put(std::string(1, static_cast<char>(byte)));
    } else {
      put(std::string("<0x") + digits[high] + digits[low] + ">");
    }
  }
  file.write(path);
}

}  // namespace gqa::examples
