// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Options take the numbers that they are given, and no others.

#include "support/command_line.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gqa::examples {
namespace {

/// Whether `--x text` is taken, and then as what.
template <typename T>
std::optional<T> parsed(const std::string& text) {
  T value{};
  CLI::App app("", "test");
  add_option(app, "--x", value, "")->delimiter(',');
  try {
    app.parse(std::vector<std::string>{text, "--x"});  // from the last to the first
  } catch (const CLI::ParseError& error) {
    EXPECT_NE(std::string(error.what()).find("--x"), std::string::npos) << error.what();
    return std::nullopt;
  }
  return value;
}

TEST(Options, TakeWholeNumbersOfTheirTypeOnly) {
  EXPECT_EQ(parsed<std::uint64_t>("18446744073709551615"), UINT64_MAX);
  EXPECT_EQ(parsed<std::uint64_t>("18446744073709551616"), std::nullopt);
  EXPECT_EQ(parsed<std::uint64_t>("99999999999999999999999"), std::nullopt);
  EXPECT_EQ(parsed<std::uint64_t>("-1"), std::nullopt);
  EXPECT_EQ(parsed<std::uint64_t>("-18446744073709551615"), std::nullopt);
  EXPECT_EQ(parsed<std::uint64_t>("0"), 0U);
  EXPECT_EQ(parsed<std::int64_t>("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(parsed<std::int64_t>("9223372036854775808"), std::nullopt);
  EXPECT_EQ(parsed<std::int64_t>("-9223372036854775808"), INT64_MIN);
  EXPECT_EQ(parsed<std::int64_t>("-9223372036854775809"), std::nullopt);
  EXPECT_EQ(parsed<std::int64_t>("0x7fffffffffffffff"), INT64_MAX);
  EXPECT_EQ(parsed<std::int64_t>("0x8000000000000000"), std::nullopt);
  EXPECT_EQ(parsed<int>("2147483648"), std::nullopt);
  EXPECT_EQ(parsed<int>("4294967297"), std::nullopt);
  EXPECT_EQ(parsed<int>("-7"), -7);
  for (const char* text : {"", "x", "1.5", "1e3", "7x", "nan", "- 7"}) {
    EXPECT_EQ(parsed<int>(text), std::nullopt) << text;
    EXPECT_EQ(parsed<std::uint64_t>(text), std::nullopt) << text;
  }
}

TEST(Options, TakeFiniteNumbersOnly) {
  EXPECT_EQ(parsed<double>("-1.5e-3"), -1.5e-3);
  EXPECT_EQ(parsed<double>("1e308"), 1e308);
  EXPECT_EQ(parsed<float>("1e38"), 1e38F);
  EXPECT_EQ(parsed<float>("1e39"), std::nullopt);
  for (const char* text :
       {"nan", "-nan", "NaN", "nan(7)", "inf", "-inf", "Infinity", "1e309", "", "x", "1.5.2"}) {
    EXPECT_EQ(parsed<double>(text), std::nullopt) << text;
    EXPECT_EQ(parsed<float>(text), std::nullopt) << text;
  }
}

TEST(Options, TakeTextThatIsNotEmpty) {
  EXPECT_EQ(parsed<std::string>("a text"), "a text");
  EXPECT_EQ(parsed<std::string>(""), std::nullopt);
}

TEST(Options, TakeListsOfThese) {
  EXPECT_EQ(parsed<std::vector<std::uint64_t>>("1,2"), (std::vector<std::uint64_t>{1, 2}));
  EXPECT_EQ(parsed<std::vector<std::uint64_t>>("1,18446744073709551616"), std::nullopt);
  EXPECT_EQ(parsed<std::vector<double>>("1,nan"), std::nullopt);
  EXPECT_EQ(parsed<std::optional<std::int64_t>>("9223372036854775808"), std::nullopt);
  EXPECT_EQ(parsed<std::optional<double>>("0.5"), 0.5);
}

/// Limits are CLI11's, which let NaN through.
TEST(Options, KeepTheirLimits) {
  double value = 0;
  CLI::App app("", "test");
  add_option(app, "--x", value, "")->check(CLI::PositiveNumber);
  for (const char* text : {"nan", "0", "-1"}) {
    EXPECT_THROW(app.parse(std::vector<std::string>{text, "--x"}), CLI::ParseError) << text;
  }
  app.parse(std::vector<std::string>{"2", "--x"});
  EXPECT_EQ(value, 2);
}

}  // namespace
}  // namespace gqa::examples
