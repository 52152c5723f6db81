// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The texts of errors: every kind of part that a message may have.
#include "gqa/core/error.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

#include "support/errors.hpp"

namespace gqa::test {
namespace {

struct Pair {
  int first, second;
};
std::string to_string(const Pair& p) { return message("{", p.first, "|", p.second, "}"); }

enum class Colour { red, green };
std::string to_string(Colour c) { return c == Colour::red ? "red" : "green"; }

struct NotCopied {
  NotCopied() = default;
  NotCopied(const NotCopied&) = delete;
};
std::string to_string(const NotCopied&) { return "itself"; }

TEST(Message, JoinsTextAndNumbers) {
  EXPECT_EQ(message("a ", 3, " of ", Index{-4}, std::string("!")), "a 3 of -4!");
  EXPECT_EQ(error_of([] { require(false, "n is ", 5); }), "n is 5");
  require(true, "nothing");
}

TEST(Message, OfNothingIsEmpty) {
  EXPECT_EQ(message(), "");
  EXPECT_EQ(message("", std::string(), std::string_view()), "");
  EXPECT_EQ(error_of([] { require(false); }), "");
}

TEST(Message, TakesStringsOfEveryKind) {
  const char* const pointer = "pointer";
  char array[8] = "ab";
  char* const into_array = array;
  const std::string with_zero("x\0y", 3);
  EXPECT_EQ(message(pointer, " ", array, " ", into_array), "pointer ab ab");
  EXPECT_EQ(message(std::string_view("whole").substr(1, 3)), "hol");
  EXPECT_EQ(message(with_zero, "|", with_zero).size(), 7u);
  EXPECT_EQ(message(std::string(1000, 'a'), 1), std::string(1000, 'a') + "1");
}

TEST(Message, TakesWholeNumbersUpToTheirEnds) {
  EXPECT_EQ(message(INT64_MIN, " ", INT64_MAX), "-9223372036854775808 9223372036854775807");
  EXPECT_EQ(message(UINT64_MAX, " ", SIZE_MAX), "18446744073709551615 18446744073709551615");
  EXPECT_EQ(message(std::int8_t{-128}, " ", std::uint8_t{255}, " ", UINT32_MAX),
            "-128 255 4294967295");
  EXPECT_EQ(message(true, false, 'a'), "1097");
}

TEST(Message, TakesRealNumbersInTheShorterForm) {
  EXPECT_EQ(message(0.0, " ", -0.0, " ", 1.5f, " ", -2.25),
            "0.000000 -0.000000 1.500000 -2.250000");
  EXPECT_EQ(message(1e-4, " ", 9.9e-5, " ", -9.9e-5), "0.000100 9.9e-05 -9.9e-05");
  EXPECT_EQ(message(999999999999999.0, " ", 1e15, " ", -1e300),
            "999999999999999.000000 1e+15 -1e+300");
  EXPECT_EQ(
      message(std::numeric_limits<float>::infinity(), " ", -std::numeric_limits<double>::infinity(),
              " ", std::numeric_limits<double>::quiet_NaN()),
      "inf -inf nan");
}

TEST(Message, TakesWhatHasAToString) {
  EXPECT_EQ(message("<", Pair{1, -2}, ">", Colour::green, Colour::red), "<{1|-2}>greenred");
  EXPECT_EQ(message(NotCopied()), "itself");
  EXPECT_EQ(error_of([] { require(false, Pair{3, 4}, " of ", Colour::red); }), "{3|4} of red");
}

TEST(Require, BuildsNothingWhileTheConditionHolds) {
  const std::string part = "text";
  require(true, part, 1, 2.0, Pair{1, 2});
  EXPECT_EQ(error_of<std::length_error>([] {
              detail::throw_length_error({"of ", 3, "!"});
            }),
            "of 3!");
}

}  // namespace
}  // namespace gqa::test
