// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors

#include "support/json.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <string>

#include "files.hpp"

namespace gqa::examples {
namespace {

using test::expect_error;
using test::TemporaryFolder;

std::string nested(int levels, char open, char close, const std::string& inner) {
  std::string text;
  for (int i = 0; i < levels; ++i) text += open == '{' ? "{\"a\":" : std::string(1, open);
  return text + inner + std::string(static_cast<std::size_t>(levels), close);
}

void expect_refused(const std::string& text, std::initializer_list<std::string_view> parts) {
  SCOPED_TRACE(text.substr(0, 80));
  expect_error<std::runtime_error>([&] { parse_json(text, "x.json"); }, parts);
}

TEST(Json, WhatIsReadIsWrittenAgainInItsOrder) {
  const std::string text = R"({
  "z": [
    1,
    -2.5,
    1e-05,
    18446744073709551615
  ],
  "a": {
    "é \" \\ \n": null,
    "": [],
    "{": {}
  },
  "b": [
    true,
    false,
    "\u0001"
  ]
})";
  EXPECT_EQ(json_text(parse_json(text, "x.json")), text);
  EXPECT_EQ(parse_json(" 3 ", "x.json"), 3);
  EXPECT_EQ(parse_json("\"\\u00e9\"", "x.json"), "é");
}

TEST(Json, NumbersThatOnlyPythonWritesComeThrough) {
  const std::string text =
      "{\n  \"most\": Infinity,\n  \"least\": -Infinity,\n  \"none\": NaN,\n"
      "  \"word\": \"Infinity\"\n}";
  const auto json = parse_json(text, "x.json");
  EXPECT_EQ(json["most"], std::numeric_limits<double>::infinity());
  EXPECT_EQ(json["least"], -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(json["none"].get<double>()));
  EXPECT_EQ(json["word"], "Infinity");
  EXPECT_EQ(json_text(json), text);
  JsonRules strict;
  strict.pythons_numbers = false;
  expect_error<std::runtime_error>([&] { parse_json("[Infinity]", "x.json", 0, strict); },
                                   {"x.json: byte 1: ", "isn't valid JSON"});
}

TEST(Json, TheLastOfEqualNamesCountsUnlessNamesAreUnique) {
  const std::string text = R"({"a": 1, "b": 2, "a": 3})";
  EXPECT_EQ(parse_json(text, "x.json"), OrderedJson::parse(R"({"a": 3, "b": 2})"));
  JsonRules unique;
  unique.unique_names = true;
  expect_error<std::runtime_error>([&] { parse_json(text, "x.json", 100, unique); },
                                   {"x.json: byte 117: the name \"a\" appears twice"});
}

TEST(Json, DepthIsBoundedBeforeAnythingIsBuilt) {
  for (const char open : {'[', '{'}) {
    const char close = open == '[' ? ']' : '}';
    EXPECT_NO_THROW(parse_json(nested(64, open, close, "1"), "x.json"));
    for (const int levels : {65, 10'000, 1'000'000}) {
      expect_refused(nested(levels, open, close, "1"), {"x.json: byte ", "nested too deeply"});
      expect_refused(nested(levels, open, close, "").substr(0, 600'000), {"nested too deeply"});
    }
  }
}

TEST(Json, MalformedTextIsRefusedWithItsByte) {
  expect_refused("", {"x.json: byte 0: "});
  expect_refused("  ", {"byte 2: "});
  expect_refused("{\"a\":}", {"byte 5: "});
  expect_refused("{\"a\" 1}", {"byte 5: "});
  expect_refused("{a: 1}", {"byte 1: "});
  expect_refused("{\"a\": 1,}", {"byte 8: "});
  expect_refused("[1 2]", {"byte 3: "});
  expect_refused("[1,]", {"byte 3: "});
  expect_refused("{} x", {"byte 3: "});
  expect_refused(std::string("{}\0", 3), {"byte 2: "});
  expect_refused("\xEF\xBB\xBF{}", {"byte 0: "});
  expect_refused("[\"a", {"byte 3: "});
  expect_refused("[\"a\\\"]", {"byte 6: "});
  expect_refused("[\"\xFF\"]", {"byte 2: "});
  expect_refused("[\"\n\"]", {"byte 2: "});
  expect_refused("[1e999]", {"byte 1: ", "1e999 is out of range"});
  expect_refused("[01]", {"byte 2: "});
  expect_refused("[+1]", {"byte 1: "});
  expect_refused("[nul]", {"byte ", "\"nul\" is neither a number nor null"});
  expect_refused("[\"a\\x\"]", {"byte 4: ", "no string has such"});
  expect_refused("[infinity]", {"byte "});
  expect_refused("[1 /* one */]", {"byte 3: "});
}

/// A text with bytes changed is either refused by this reader and by the library, or read alike.
TEST(Json, AgreesWithTheLibraryOnDamagedText) {
  const std::string good =
      R"({"a": [1, -2.5e3, "x\n\u00e9"], "b": {"c": null, "d": [true, false, {}]}, "e": ""})";
  const std::string bytes = "{}[]\",:\\ 0-eE.+tfnu\n\t/\x01\xC3";
  std::mt19937 random(1);
  int read = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text = good;
    for (int change = 0; change < 1 + i % 3; ++change) {
      const std::size_t at = random() % text.size();
      if (i % 2 == 0) {
        text[at] = bytes[random() % bytes.size()];
      } else {
        text.erase(at, 1);
      }
    }
    OrderedJson value;
    bool taken = true;
    try {
      value = parse_json(text, "x.json");
    } catch (const std::runtime_error&) {
      taken = false;
    }
    ASSERT_EQ(taken, OrderedJson::accept(text)) << text;
    if (!taken) continue;
    ++read;
    const auto expected = nlohmann::json::parse(text);
    ASSERT_EQ(nlohmann::json(value), expected) << text;
    ASSERT_EQ(nlohmann::json::parse(json_text(value)), expected);
  }
  EXPECT_GT(read, 1000);
}

TEST(Json, FilesAreBoundedAndNamed) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::filesystem::path& path,
                           std::initializer_list<std::string_view> parts) {
    expect_error<std::runtime_error>([&] { read_json(path); }, {path.string()});
    expect_error<std::runtime_error>([&] { read_json(path); }, parts);
  };
  EXPECT_EQ(read_json(folder.file("a.json", "{\"a\": 1}\n"))["a"], 1);
  refused(folder.path() / "none.json", {"cannot open"});
  refused(folder.path(), {"not a regular file"});
  refused(folder.file("list.json", "[]"), {"isn't a JSON object"});
  refused(folder.file("half.json", "{\"a\": "), {"byte 7"});
  const auto huge = folder.file("huge.json", "{}");
  std::filesystem::resize_file(huge, 3'000'000'000);  // sparse: takes no room on the disk
  refused(huge, {"limit of 100000000"});
}

}  // namespace
}  // namespace gqa::examples
