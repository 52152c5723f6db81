// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Tensors that nobody asks for must not stop a file from being read: every dtype of the format is
// known by its size, whether or not C++ has a type for it.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "files.hpp"
#include "support/safetensors.hpp"

namespace gqa::examples {
namespace {

using test::expect_error;

/// A file with an F32 tensor "x" of one element, and after it "other" in `bytes` bytes.
std::string file_with(const std::string& dtype, const std::string& shape, std::size_t bytes) {
  const std::string header = R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                             R"("other":{"dtype":")" +
                             dtype + R"(","shape":)" + shape + R"(,"data_offsets":[4,)" +
                             std::to_string(4 + bytes) + "]}}";
  return test::bytes_of_number(std::uint64_t{header.size()}) + header +
         test::bytes_of_number(2.5F) + std::string(bytes, '\1');
}

TEST(SafeTensorsDTypes, EveryTypeOfTheFormatIsKnownByItsSize) {
  const std::vector<std::pair<std::string, std::size_t>> bits = {
      {"BOOL", 8},        {"U8", 8},      {"I8", 8},      {"U16", 16},    {"I16", 16},
      {"U32", 32},        {"I32", 32},    {"U64", 64},    {"I64", 64},    {"F16", 16},
      {"BF16", 16},       {"F32", 32},    {"F64", 64},    {"F4", 4},      {"F6_E2M3", 6},
      {"F6_E3M2", 6},     {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
      {"F8_E5M2FNUZ", 8}, {"C64", 64}};
  EXPECT_EQ(bits.size(), all_dtypes.size());
  for (const auto& known : bits) {
    const std::string& dtype = known.first;  // clang before 16 captures no structured bindings
    const std::size_t size = known.second;
    SCOPED_TRACE(dtype);
    const SafeTensors file(test::as_bytes(file_with(dtype, "[4,6]", 24 * size / 8)), "model.st");
    EXPECT_EQ(file.to_float("x"), std::vector<float>{2.5F});
    EXPECT_EQ(file.tensor("other").size(), 24U);
    EXPECT_EQ(name_of(file.tensor("other").dtype), dtype);
    expect_error<std::runtime_error>(
        [&] {
          SafeTensors(test::as_bytes(file_with(dtype, "[4,6]", 24 * size / 8 + 1)), "model.st");
        },
        {"model.st: byte ", "needs " + std::to_string(24 * size / 8) + " bytes"});
  }
}

TEST(SafeTensorsDTypes, ElementsThatFillNoWholeBytesAreRefused) {
  for (const auto& [dtype, shape] :
       {std::pair{"F4", "[3]"}, {"F6_E2M3", "[2,3]"}, {"F6_E3M2", "[1]"}, {"F4", "[]"}}) {
    expect_error<std::runtime_error>(
        [&, dtype = dtype, shape = shape] {
          SafeTensors(test::as_bytes(file_with(dtype, shape, 2)), "model.st");
        },
        {"model.st: byte ", "\"other\"", "aren't whole bytes"});
  }
  EXPECT_NO_THROW(SafeTensors(test::as_bytes(file_with("F4", "[0,3]", 0)), "model.st"));
}

TEST(SafeTensorsDTypes, NumbersOfTypesThatAreOnlyCopiedAreNotRead) {
  for (const char* dtype : {"F8_E4M3", "F8_E5M2", "F8_E8M0"}) {
    const SafeTensors file(test::as_bytes(file_with(dtype, "[2]", 2)), "model.st");
    expect_error<std::runtime_error>([&] { file.to_float("other"); },
                                     {"model.st: byte ", dtype, "isn't read here"});
    expect_error<std::runtime_error>([&] { file.to_int64("other"); }, {"isn't read here"});
    expect_error<std::runtime_error>([&] { file.values<float>("other"); }, {"isn't F32"});
    EXPECT_EQ(file.tensor("other").bytes.size(), 2U);
  }
  const SafeTensors complex(test::as_bytes(file_with("C64", "[2]", 16)), "model.st");
  expect_error<std::runtime_error>([&] { complex.to_double("other"); }, {"isn't read here"});
}

}  // namespace
}  // namespace gqa::examples
