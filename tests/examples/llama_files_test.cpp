// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The readers of llama2.c's checkpoints and tokenizers, on the real files and on broken ones.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "files.hpp"
#include "llama/checkpoint.hpp"
#include "llama/tokenizer.hpp"

namespace gqa::examples {
namespace {

using test::bytes_of_number;
using test::expect_error;
using test::TemporaryFolder;

using Header = std::array<std::int32_t, 7>;
//                             dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len
constexpr Header tiny_header = {8, 6, 2, 4, 2, 5, 3};

std::size_t tiny_weights(bool own_classifier) {
  return 5 * 8 + 2 * (8 + 64 + 32 + 32 + 64 + 8 + 48 + 48 + 48) + 8 + 2 * 3 +
         (own_classifier ? 40 : 0);
}

/// A checkpoint whose weights are 0, 1, 2, …
std::string checkpoint_bytes(const Header& header, std::size_t num_weights) {
  std::string bytes;
  for (const std::int32_t n : header) bytes += bytes_of_number(n);
  for (std::size_t i = 0; i < num_weights; ++i) bytes += bytes_of_number(static_cast<float>(i));
  return bytes;
}

void expect_refused_checkpoint(const std::string& bytes,
                               std::initializer_list<std::string_view> parts) {
  const TemporaryFolder folder;
  const auto path = folder.file("model.bin", bytes);
  expect_error<std::runtime_error>([&] { Checkpoint checkpoint(path); }, {"model.bin: byte "});
  expect_error<std::runtime_error>([&] { Checkpoint checkpoint(path); }, parts);
}

TEST(Checkpoint, WeightsAreWhereTheFormatPutsThem) {
  const TemporaryFolder folder;
  const Checkpoint checkpoint(folder.file("a", checkpoint_bytes(tiny_header, tiny_weights(false))));
  EXPECT_EQ(checkpoint.config().head_dim(), 2);
  EXPECT_EQ(checkpoint.config().kv_size(), 4);
  EXPECT_TRUE(checkpoint.shares_classifier());
  ASSERT_EQ(checkpoint.layers().size(), 2U);
  const auto& second = checkpoint.layers()[1];

  // Each block begins where the ones before it end.
  EXPECT_EQ(checkpoint.token_embedding().size(), 40U);
  EXPECT_EQ(checkpoint.token_embedding()[0], 0.0F);
  EXPECT_EQ(checkpoint.classifier().data(), checkpoint.token_embedding().data());
  const auto expect_block = [](std::span<const float> block, std::size_t size, float first) {
    EXPECT_EQ(block.size(), size);
    EXPECT_EQ(block[0], first);
  };
  expect_block(second.attention_norm, 8, 40 + 8);
  expect_block(second.wq, 64, 56 + 64);
  expect_block(second.wk, 32, 184 + 32);
  expect_block(second.wv, 32, 248 + 32);
  expect_block(second.wo, 64, 312 + 64);
  expect_block(second.feed_forward_norm, 8, 440 + 8);
  expect_block(second.w1, 48, 456 + 48);
  expect_block(second.w2, 48, 552 + 48);
  expect_block(second.w3, 48, 648 + 48);
  expect_block(checkpoint.final_norm(), 8, 744);
}

TEST(Checkpoint, IsWrittenAsItIsRead) {
  for (const bool own_classifier : {false, true}) {
    Header header = tiny_header;
    if (own_classifier) header[5] = -header[5];
    const TemporaryFolder folder;
    const std::string bytes = checkpoint_bytes(header, tiny_weights(own_classifier));
    const Checkpoint checkpoint(folder.file("a", bytes));
    write_checkpoint(folder.path() / "b", checkpoint.weights());
    std::string expected = bytes;
    // Only the rotary tables, 3 positions of 1 pair each, are made anew: angles of 0, 1 and 2.
    const std::size_t tables = 28 + 4 * (tiny_weights(false) - 6);
    for (std::size_t i = 0; i < 3; ++i) {
      const auto angle = static_cast<double>(i);
      expected.replace(tables + 4 * i, 4, bytes_of_number(static_cast<float>(std::cos(angle))));
      expected.replace(tables + 12 + 4 * i, 4,
                       bytes_of_number(static_cast<float>(std::sin(angle))));
    }
    EXPECT_EQ(test::read_bytes(folder.path() / "b"), expected) << own_classifier;

    CheckpointWeights weights = checkpoint.weights();
    weights.layers[1].wk = weights.layers[1].wk.first(31);
    expect_error<std::invalid_argument>([&] { write_checkpoint(folder.path() / "b", weights); },
                                        {"weight [4, 8] was given 31 numbers"});
    EXPECT_EQ(test::read_bytes(folder.path() / "b"), expected) << "stays as it was";
    expect_error<std::runtime_error>(
        [&] { write_checkpoint(folder.path() / "no" / "b", checkpoint.weights()); },
        {"no/b: cannot write"});
    expect_error<std::runtime_error>([&] { write_checkpoint(folder.path(), checkpoint.weights()); },
                                     {"not a regular file"});
  }
}

TEST(Tokenizer, OfBytesMakesEachByteAToken) {
  const TemporaryFolder folder;
  write_byte_tokenizer(folder.path() / "bytes.bin");
  const Tokenizer tokenizer(folder.path() / "bytes.bin", byte_vocab_size);
  std::string text;
  for (int byte = 0; byte < 256; ++byte) text += static_cast<char>(byte);
  text += "To be, caf\xC3\xA9 <0x41>";
  const auto tokens = tokenizer.encode(text);
  ASSERT_EQ(tokens.size(), text.size() + 2);
  EXPECT_EQ(tokens[0], Tokenizer::begin_of_sequence);
  EXPECT_EQ(tokens[1], Tokenizer::first_byte + ' ');  // the space before every text
  for (std::size_t i = 0; i < text.size(); ++i) {
    ASSERT_EQ(tokens[i + 2], Tokenizer::first_byte + static_cast<unsigned char>(text[i])) << i;
  }
  EXPECT_EQ(tokenizer.decode(tokens), text);
}

TEST(Checkpoint, ANegativeVocabularyMeansAClassifierOfItsOwn) {
  Header header = tiny_header;
  header[5] = -5;
  const TemporaryFolder folder;
  const Checkpoint checkpoint(folder.file("a", checkpoint_bytes(header, tiny_weights(true))));
  EXPECT_FALSE(checkpoint.shares_classifier());
  EXPECT_EQ(checkpoint.config().vocab_size, 5);
  EXPECT_EQ(checkpoint.classifier().size(), 40U);
  EXPECT_EQ(checkpoint.classifier()[0], 744.0F + 8 + 6);
  expect_refused_checkpoint(checkpoint_bytes(header, tiny_weights(false)),
                            {"asks for 3220 bytes in all, the file has 3060"});
}

TEST(Checkpoint, AMovedCheckpointKeepsItsWeights) {
  const TemporaryFolder folder;
  Checkpoint first(folder.file("a", checkpoint_bytes(tiny_header, tiny_weights(false))));
  const Checkpoint second(std::move(first));
  EXPECT_EQ(second.layers()[1].w3[0], 696.0F);
  EXPECT_EQ(second.token_embedding()[39], 39.0F);
}

TEST(Checkpoint, HeadersThatDescribeNoModelAreRefused) {
  const char* const names[] = {"dim",        "hidden_dim", "n_layers", "n_heads",
                               "n_kv_heads", "vocab_size", "seq_len"};
  for (std::size_t i = 0; i < 7; ++i) {
    for (const std::int32_t value : {0, -1, std::numeric_limits<std::int32_t>::min()}) {
      if (i == 5 && value < 0) continue;  // a vocabulary with a classifier of its own
      SCOPED_TRACE(std::string(names[i]) + " " + std::to_string(value));
      Header header = tiny_header;
      header[i] = value;
      expect_refused_checkpoint(checkpoint_bytes(header, tiny_weights(false)),
                                {"byte " + std::to_string(4 * i), names[i], std::to_string(value)});
    }
  }
  const auto with = [](std::size_t i, std::int32_t value) {
    Header header = tiny_header;
    header[i] = value;
    return checkpoint_bytes(header, tiny_weights(false));
  };
  expect_refused_checkpoint(with(3, 3), {"byte 12", "n_heads 3 does not divide dim 8"});
  expect_refused_checkpoint(with(4, 3), {"byte 16", "n_kv_heads 3 does not divide n_heads 4"});
  expect_refused_checkpoint(with(4, 8), {"byte 16", "n_kv_heads 8 does not divide n_heads 4"});
  expect_refused_checkpoint(with(3, 8), {"byte 12", "head_dim 1 is odd"});
  expect_refused_checkpoint(with(0, 0x616b3432), {"byte 0", "ak42"});
}

TEST(Checkpoint, SizesThatOverflowAreRefused) {
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max() - 1;  // even
  expect_refused_checkpoint(checkpoint_bytes({most, most, most, 1, 1, most, most}, 10),
                            {"byte 0", "more bytes than 63 bits"});
  expect_refused_checkpoint(checkpoint_bytes({8, 6, most, 4, 2, 5, 3}, tiny_weights(false)),
                            {"the file has 3060"});
  expect_refused_checkpoint(
      checkpoint_bytes({8, 6, 2, 4, 2, std::numeric_limits<std::int32_t>::min(), 3}, 10),
      {"the file has 68"});
}

TEST(Checkpoint, FilesOfAnotherSizeAreRefused) {
  const std::string good = checkpoint_bytes(tiny_header, tiny_weights(false));
  ASSERT_EQ(good.size(), 3060U);
  for (const std::size_t n : {0U, 1U, 27U}) {
    expect_refused_checkpoint(
        good.substr(0, n), {"byte 0", "begins with 28 bytes, this file has " + std::to_string(n)});
  }
  for (const std::size_t n : {28U, 29U, 1000U, 3059U}) {
    expect_refused_checkpoint(
        good.substr(0, n), {"byte " + std::to_string(n), "asks for 3060 bytes", std::to_string(n)});
  }
  expect_refused_checkpoint(good + "x", {"byte 3060", "the file has 3061"});
  const TemporaryFolder folder;
  expect_error<std::runtime_error>([&] { Checkpoint checkpoint(folder.path() / "none.bin"); },
                                   {"none.bin"});
}

TEST(Checkpoint, NoDamagedHeaderDoesHarm) {
  const std::string good = checkpoint_bytes(tiny_header, tiny_weights(false));
  const TemporaryFolder folder;
  for (std::size_t i = 0; i < 28; ++i) {
    for (const int bit : {0, 1, 2, 3, 4, 5, 6, 7}) {
      std::string damaged = good;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      // The size of the file gives each of them away.
      EXPECT_THROW(Checkpoint checkpoint(folder.file("a", damaged)), std::runtime_error)
          << "byte " << i << " bit " << bit;
    }
  }
}

TEST(Checkpoint, ReadsStories260K) {
  GQA_NEEDS_SHARED_DATA("stories260K/stories260K.bin");
  const Checkpoint checkpoint(test::shared_data("stories260K/stories260K.bin"));
  const LlamaConfig& config = checkpoint.config();
  EXPECT_EQ(config.hidden_size, 64);
  EXPECT_EQ(config.intermediate_size, 172);
  EXPECT_EQ(config.num_layers, 5);
  EXPECT_EQ(config.num_heads, 8);
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.vocab_size, 512);
  EXPECT_EQ(config.max_len, 512);
  EXPECT_TRUE(checkpoint.shares_classifier());
}

/// Special tokens, 256 bytes, then `pieces` with the scores 0, -1, -2, …
std::string tokenizer_bytes(const std::vector<std::string>& pieces, std::int32_t max_length = 8) {
  std::vector<std::string> all = {"<unk>", "\n<s>\n", "\n</s>\n"};
  const char* const digits = "0123456789ABCDEF";
  for (int i = 0; i < 256; ++i) {
    all.push_back(std::string("<0x") + digits[i / 16] + digits[i % 16] + ">");
  }
  const std::size_t first = all.size();
  all.insert(all.end(), pieces.begin(), pieces.end());
  std::string bytes = bytes_of_number(max_length);
  for (std::size_t i = 0; i < all.size(); ++i) {
    bytes += bytes_of_number(i < first ? 0.0F : -static_cast<float>(i - first));
    bytes += bytes_of_number(static_cast<std::int32_t>(all[i].size())) + all[i];
  }
  return bytes;
}

Tokenizer tokenizer_of(const std::vector<std::string>& pieces) {
  const TemporaryFolder folder;
  return {folder.file("tok.bin", tokenizer_bytes(pieces)), std::int64_t(259 + pieces.size())};
}

using Tokens = std::vector<Tokenizer::Token>;

TEST(Tokenizer, MergesTheBestPairFirst) {
  //                                       259 260   261   262  263  264  265
  const Tokenizer tokenizer = tokenizer_of({"bc", "ab", "abc", " ", "a", "b", "c"});
  EXPECT_EQ(tokenizer.encode(""), (Tokens{1}));
  EXPECT_EQ(tokenizer.encode("a"), (Tokens{1, 262, 263}));
  EXPECT_EQ(tokenizer.encode("ab"), (Tokens{1, 262, 260}));
  EXPECT_EQ(tokenizer.encode("abc"), (Tokens{1, 262, 261}));  // bc, then a + bc
  EXPECT_EQ(tokenizer.encode("abbc"), (Tokens{1, 262, 260, 259}));
}

TEST(Tokenizer, CharactersOutsideOfTheVocabularyBecomeBytes) {
  const Tokenizer tokenizer = tokenizer_of({" ", "\xC3\xA9"});
  EXPECT_EQ(tokenizer.encode("\xC3\xA9"), (Tokens{1, 259, 260}));
  EXPECT_EQ(tokenizer.encode("\xE2\x82\xAC"), (Tokens{1, 259, 3 + 0xE2, 3 + 0x82, 3 + 0xAC}));
  EXPECT_EQ(tokenizer.encode(std::string_view("\0", 1)), (Tokens{1, 259, 3}));
  // Malformed UTF-8: nothing is lost.
  EXPECT_EQ(tokenizer.encode("\x80\xC3"), (Tokens{1, 259, 3 + 0x80, 3 + 0xC3}));
  EXPECT_EQ(tokenizer.encode("\x80\x80\x80\x80\x80").size(), 7U);
}

TEST(Tokenizer, DecodingIsTheReverseOfEncoding) {
  const Tokenizer tokenizer = tokenizer_of({" ", "a", "b", "ab", " a"});
  for (const std::string text : {"ab ab", " a", "\xE2\x82\xAC 5 \n", "", "b\x80", "<0x4>"}) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST(Tokenizer, OnlyTheSpaceAfterTheBeginningIsDropped) {
  const Tokenizer tokenizer = tokenizer_of({" ", " a"});
  EXPECT_EQ(tokenizer.decode(1, 260), "a");
  EXPECT_EQ(tokenizer.decode(260, 260), " a");
  EXPECT_EQ(tokenizer.decode(1, 259), "");
  EXPECT_EQ(tokenizer.decode(7, 3 + 0xAC), "\xAC");
  EXPECT_EQ(tokenizer.decode(7, 0), "<unk>");
}

TEST(Tokenizer, TokensOutsideOfTheVocabularyAreRefused) {
  const Tokenizer tokenizer = tokenizer_of({" "});
  expect_error<std::out_of_range>([&] { tokenizer.decode(1, 260); }, {"260", "260"});
  expect_error<std::out_of_range>([&] { tokenizer.decode(1, -1); }, {"-1", "260"});
}

TEST(Tokenizer, BrokenFilesAreRefused) {
  const auto expect_refused = [](const std::string& bytes, std::int64_t vocab_size,
                                 std::initializer_list<std::string_view> parts) {
    const TemporaryFolder folder;
    const auto path = folder.file("tok.bin", bytes);
    expect_error<std::runtime_error>([&] { Tokenizer tokenizer(path, vocab_size); },
                                     {"tok.bin: byte "});
    expect_error<std::runtime_error>([&] { Tokenizer tokenizer(path, vocab_size); }, parts);
  };
  const std::string good = tokenizer_bytes({" ", "a"});  // token 0 begins at byte 4
  expect_refused("", 261, {"byte 0", "ends inside max_token_length: needs 4 bytes, has 0"});
  expect_refused(good, 258, {"vocabulary of 258 has no room"});
  expect_refused(good, -1, {"vocabulary of -1"});
  expect_refused(good, 262, {"ends inside token 261 of 262"});
  expect_refused(good, 260, {"9 bytes follow the last of 260 tokens"});
  expect_refused(tokenizer_bytes({"a"}), 260, {"has no space"});

  const auto with = [&](std::size_t at, const std::string& bytes) {
    return std::string(good).replace(at, bytes.size(), bytes);
  };
  expect_refused(with(8, bytes_of_number(std::int32_t{-1})), 261,
                 {"byte 8", "length of token 0 of 261 is -1"});
  expect_refused(with(8, bytes_of_number(std::int32_t{9})), 261,
                 {"byte 8", "is 9, not between 0 and max_token_length 8"});
  expect_refused(
      with(0, bytes_of_number(std::numeric_limits<std::int32_t>::max()) + bytes_of_number(0.0F) +
                  bytes_of_number(std::numeric_limits<std::int32_t>::max())),
      261, {"byte 12", "needs 2147483647 bytes"});
  expect_refused(with(4, bytes_of_number(std::numeric_limits<float>::quiet_NaN())), 261,
                 {"byte 4", "score of token 0 of 261 isn't finite"});
  const TemporaryFolder folder;
  for (std::size_t n = 0; n < good.size(); n += 7) {
    EXPECT_THROW(Tokenizer(folder.file("tok.bin", good.substr(0, n)), 261), std::runtime_error)
        << n;
  }
}

TEST(Tokenizer, EncodesAndDecodesTheReferenceRuns) {
  GQA_NEEDS_SHARED_DATA("stories260K/tok512.bin");
  const Tokenizer tokenizer(test::shared_data("stories260K/tok512.bin"), 512);
  const auto greedy =
      nlohmann::json::parse(std::ifstream(test::shared_data("stories260K/greedy.json")));
  ASSERT_EQ(greedy["cases"].size(), 2U);
  for (const auto& run : greedy["cases"]) {
    EXPECT_EQ(tokenizer.encode(run["prompt"].get<std::string>()),
              run["prompt_tokens"].get<Tokens>());
    Tokens tokens = run["fed_tokens"].get<Tokens>();
    tokens.push_back(run["last_next"].get<Tokenizer::Token>());
    EXPECT_EQ(tokenizer.decode(tokens), run["text"].get<std::string>());
  }
}

}  // namespace
}  // namespace gqa::examples
