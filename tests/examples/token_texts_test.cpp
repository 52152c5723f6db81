// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "llama/token_texts.hpp"

#include <gtest/gtest.h>

#include "files.hpp"

namespace gqa::examples {
namespace {

TEST(TokenTexts, AreListsOfIdsOfTheVocabulary) {
  const test::TemporaryFolder folder;
  const auto read = [&](const std::string& json) {
    return read_token_texts(folder.file("text.json", json), 10);
  };
  EXPECT_EQ(read("{\"note\": 1, \"tokens\": [[1, 9], [], [0]]}"),
            (std::vector<std::vector<std::int32_t>>{{1, 9}, {}, {0}}));
  EXPECT_TRUE(read("{\"tokens\": []}").empty());
  for (const char* id :
       {"10", "-1", "4294967297", "18446744073709551615", "1.0", "\"1\"", "null", "true", "[1]"}) {
    test::expect_error<std::runtime_error>(
        [&] { read(std::string("{\"tokens\": [[0, ") + id + "]]}"); }, {"text.json: token "});
  }
  for (const char* json : {"{}", "{\"tokens\": 3}", "{\"tokens\": {\"a\": [1]}}",
                           "{\"tokens\": [3]}", "{\"tokens\": [[1], null]}", "[]", "x"}) {
    test::expect_error<std::runtime_error>([&] { read(json); }, {"text.json: "});
  }
}

}  // namespace
}  // namespace gqa::examples
