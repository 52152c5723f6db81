// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors

#include "support/safetensors.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "files.hpp"
#include "support/safetensors_writer.hpp"

namespace gqa::examples {
namespace {

using test::bytes_of_number;
using test::expect_error;
using test::TemporaryFolder;

/// A file with this header and so many bytes of data, all 1.
std::string file_with(const std::string& header, std::size_t data_bytes) {
  return bytes_of_number(std::uint64_t{header.size()}) + header + std::string(data_bytes, '\1');
}

void expect_refused(const std::string& bytes, std::initializer_list<std::string_view> parts) {
  SCOPED_TRACE(bytes);
  expect_error<std::runtime_error>([&] { SafeTensors(test::as_bytes(bytes), "model.st"); },
                                   {"model.st: byte "});
  expect_error<std::runtime_error>([&] { SafeTensors(test::as_bytes(bytes), "model.st"); }, parts);
  const TemporaryFolder folder;
  const auto path = folder.file("model.st", bytes);
  expect_error<std::runtime_error>([&] { SafeTensors file(path); }, parts);
}

TEST(SafeTensors, WhatIsWrittenIsReadBack) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.safetensors";
  SafeTensorsWriter writer;
  writer.add_metadata("made by", "a \"test\" \xC3\xA9");
  writer.add("bools", {3}, std::span<const bool>(std::array{true, false, true}));
  writer.add<float>("f32", {2, 3}, {1, 2, 3, 4, 5, -6.5F});
  writer.add<double>("f64", {1, 1}, {0.1});
  writer.add<std::int64_t>("i64", {2}, {std::numeric_limits<std::int64_t>::min(), 7});
  writer.add<std::uint8_t>("u8", {1, 3}, {0, 128, 255});
  writer.add<std::int16_t>("a \"quoted\" name", {1}, {-3});
  writer.add<Eigen::half>("f16", {1}, {Eigen::half(0.333F)});
  writer.add<Eigen::bfloat16>("bf16", {3},
                              {Eigen::bfloat16(0.1F), Eigen::bfloat16(-2.0F),
                               Eigen::bfloat16(std::numeric_limits<float>::infinity())});
  writer.add<float>("scalar", {}, {42.0F});
  writer.add<float>("empty", {4, 0, 2}, std::vector<float>{});
  writer.write(path);

  const SafeTensors file(path);
  EXPECT_EQ(file.file(), path.string());
  EXPECT_EQ(file.names(), (std::vector<std::string>{"a \"quoted\" name", "bf16", "bools", "empty",
                                                    "f16", "f32", "f64", "i64", "scalar", "u8"}));
  EXPECT_EQ(file.metadata().at("made by"), "a \"test\" \xC3\xA9");
  EXPECT_EQ(file.tensor("bools").dtype, DType::boolean);
  EXPECT_EQ(file.convert<int>("bools"), (std::vector{1, 0, 1}));
  EXPECT_TRUE(file.values<bool>("bools")[2]);
  EXPECT_EQ(file.shape("f32"), (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(file.to_float("f32"), (std::vector<float>{1, 2, 3, 4, 5, -6.5F}));
  EXPECT_EQ(file.values<double>("f64")[0], 0.1);
  EXPECT_EQ(file.to_int64("i64")[0], std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(file.to_float("u8"), (std::vector<float>{0, 128, 255}));
  EXPECT_EQ(file.to_int64("a \"quoted\" name"), std::vector<std::int64_t>{-3});
  EXPECT_EQ(file.to_double("f16")[0], double(float(Eigen::half(0.333F))));
  EXPECT_EQ(file.to_float("bf16"), (std::vector<float>{float(Eigen::bfloat16(0.1F)), -2.0F,
                                                       std::numeric_limits<float>::infinity()}));
  EXPECT_EQ(file.tensor("scalar").size(), 1U);
  EXPECT_EQ(file.to_float("scalar"), std::vector<float>{42.0F});
  EXPECT_EQ(file.shape("empty"), (std::vector<std::int64_t>{4, 0, 2}));
  EXPECT_TRUE(file.to_float("empty").empty());
  for (const std::string& name : file.names()) {
    const FileTensor& tensor = file.tensor(name);
    EXPECT_EQ(tensor.byte % bytes_of(tensor.dtype), 0U) << name << " is aligned in the file";
  }
}

TEST(SafeTensors, ReadsTheSameFromMemoryAsFromAFile) {
  const std::string bytes =
      file_with(R"({"x":{"dtype":"U16","shape":[2],"data_offsets":[0,4]}})", 4);
  const SafeTensors file(test::as_bytes(bytes), "memory");
  EXPECT_EQ(file.to_int64("x"), (std::vector<std::int64_t>{257, 257}));
  EXPECT_EQ(file.file(), "memory");
}

TEST(SafeTensors, AFileWithoutTensorsIsValid) {
  EXPECT_TRUE(SafeTensors(test::as_bytes(file_with("{}", 0)), "empty").names().empty());
}

TEST(SafeTensors, UnalignedTensorsAreCopiedButNotReadInPlace) {
  const std::string bytes = file_with(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                      R"("x":{"dtype":"I32","shape":[1],"data_offsets":[1,5]}})",
                                      5);
  const SafeTensors file(test::as_bytes(bytes), "model.st");
  EXPECT_EQ(file.to_int64("x"), std::vector<std::int64_t>{0x01010101});
  expect_error<std::runtime_error>([&] { file.values<std::int32_t>("x"); },
                                   {"\"x\" (I32 [1]) isn't aligned"});
}

TEST(SafeTensors, AccessToWhatIsNotThereSaysSo) {
  const std::string bytes =
      file_with(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4);
  const SafeTensors file(test::as_bytes(bytes), "model.st");
  expect_error<std::runtime_error>([&] { file.tensor("y"); },
                                   {"model.st", "no tensor named \"y\""});
  expect_error<std::runtime_error>([&] { file.values<double>("x"); },
                                   {"\"x\" (F32 [1]) isn't F64"});
  expect_error<std::runtime_error>([&] { file.to_int64("x"); },
                                   {"doesn't convert to whole numbers"});
}

TEST(SafeTensors, FilesThatAreNotThereAreRefused) {
  const TemporaryFolder folder;
  expect_error<std::runtime_error>([&] { SafeTensors file(folder.path() / "missing.st"); },
                                   {"missing.st: byte 0: "});
  expect_error<std::runtime_error>([&] { SafeTensors file(folder.path()); },
                                   {"not a regular file"});
}

TEST(SafeTensors, HeadersThatDoNotFitTheFileAreRefused) {
  expect_refused("", {"byte 0", "begins with 8 bytes, this one has 0"});
  expect_refused("\1\2\3", {"byte 0", "this one has 3"});
  expect_refused(bytes_of_number(std::uint64_t{3}) + "{}", {"byte 0", "has 3 bytes, but only 2"});
  expect_refused(bytes_of_number(std::numeric_limits<std::uint64_t>::max()) + "{}",
                 {"byte 0", "18446744073709551615 bytes, but only 2"});
  expect_refused(bytes_of_number(std::numeric_limits<std::uint64_t>::max() - 7) + "{}",
                 {"byte 0", "bytes, but only 2"});
}

TEST(SafeTensors, AHugeHeaderIsRefusedBeforeItIsRead) {
  const TemporaryFolder folder;
  const auto path = folder.file("model.st", bytes_of_number(std::uint64_t{200'000'000}));
  std::filesystem::resize_file(path, 300'000'000);  // sparse: takes no room on the disk
  expect_error<std::runtime_error>([&] { SafeTensors file(path); },
                                   {"byte 0", "200000000", "limit of 100000000"});
}

TEST(SafeTensors, HeadersThatAreNotJsonAreRefused) {
  expect_refused(file_with("", 0), {"byte 8", "JSON"});
  expect_refused(file_with("{\"x\":}", 0), {"byte 13", "isn't valid JSON"});
  expect_refused(file_with("{\"x\":\xFF}", 0), {"byte 13", "isn't valid JSON"});
  expect_refused(file_with(std::string("{}\0", 3), 0), {"isn't valid JSON"});
  expect_refused(file_with("[]", 0), {"byte 8", "isn't a JSON object"});
  expect_refused(file_with("7", 0), {"byte 8", "isn't a JSON object"});
  std::string deep = "{\"x\":";
  for (int i = 0; i < 100000; ++i) deep += '[';
  expect_error<std::runtime_error>(
      [&] { SafeTensors(test::as_bytes(file_with(deep, 0)), "model.st"); }, {"nested too deeply"});
}

TEST(SafeTensors, EntriesThatAreNotTensorsAreRefused) {
  expect_refused(file_with(R"({"x":3})", 0), {"byte 9", "\"x\": isn't an object"});
  expect_refused(file_with(R"({"x":{"shape":[1],"data_offsets":[0,4]}})", 4), {"has no dtype"});
  expect_refused(file_with(R"({"x":{"dtype":"F32","data_offsets":[0,4]}})", 4), {"has no shape"});
  expect_refused(file_with(R"({"x":{"dtype":"F32","shape":[1]}})", 4), {"has no data_offsets"});
  expect_refused(
      file_with(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"stride":[1]}})", 4),
      {"unknown field \"stride\""});
  expect_refused(file_with(R"({"x":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", 4),
                 {"unknown dtype \"F31\""});
  expect_refused(file_with(R"({"x":{"dtype":5,"shape":[1],"data_offsets":[0,4]}})", 4),
                 {"dtype isn't a string"});
  expect_refused(file_with(R"({"__metadata__":{"a":1}})", 0), {"\"a\" isn't a string"});
  expect_refused(file_with(R"({"__metadata__":"a"})", 0), {"isn't an object"});
}

TEST(SafeTensors, NamesThatAppearTwiceAreRefused) {
  expect_refused(file_with(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                           R"("x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                           8),
                 {"byte 62", "\"x\" appears twice"});
  expect_refused(
      file_with(R"({"x":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,8]}})", 8),
      {"\"shape\" appears twice"});
}

TEST(SafeTensors, ShapesThatAreNoShapesAreRefused) {
  const auto with_shape = [](const std::string& shape, const std::string& end = "4") {
    return file_with(
        "{\"x\":{\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":[0," + end + "]}}", 4);
  };
  expect_refused(with_shape("4"), {"shape isn't an array"});
  expect_refused(with_shape("[-1]"), {"is -1, not a whole number"});
  expect_refused(with_shape("[1.0]"), {"is 1.0, not a whole number"});
  expect_refused(with_shape("[\"1\"]"), {"not a whole number"});
  expect_refused(with_shape("[18446744073709551615]"), {"not a whole number"});
  expect_refused(with_shape("[4294967296,4294967296]"), {"more elements than 64 bits count"});
  expect_refused(with_shape("[2305843009213693952,2]"), {"more elements than 64 bits count"});
  expect_refused(with_shape("[2]"), {"needs 8 bytes, its data_offsets give 4"});
  expect_refused(with_shape("[0]"), {"needs 0 bytes, its data_offsets give 4"});
  expect_refused(with_shape("[1]", "3"), {"needs 4 bytes, its data_offsets give 3"});
}

TEST(SafeTensors, OffsetsOutsideOfTheFileAreRefused) {
  const auto with_offsets = [](const std::string& offsets) {
    return file_with("{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" + offsets + "}}",
                     4);
  };
  expect_refused(with_offsets("[4,8]"), {"[4,8] lie outside of the 4 bytes"});
  expect_refused(with_offsets("[4,0]"), {"[4,0] lie outside"});
  expect_refused(with_offsets("[-4,0]"), {"aren't two whole numbers"});
  expect_refused(with_offsets("[0,4.0]"), {"aren't two whole numbers"});
  expect_refused(with_offsets("[0]"), {"isn't a pair"});
  expect_refused(with_offsets("[0,2,4]"), {"isn't a pair"});
  expect_refused(with_offsets("[9223372036854775804,9223372036854775808]"),
                 {"aren't two whole numbers"});
  expect_refused(with_offsets("[9223372036854775803,9223372036854775807]"), {"lie outside"});
}

TEST(SafeTensors, TensorsCoverTheDataExactlyOnce) {
  const auto with_ranges = [](const std::string& a, const std::string& b, std::size_t data_bytes) {
    return file_with("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + a +
                         "},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + b + "}}",
                     data_bytes);
  };
  EXPECT_NO_THROW(SafeTensors(test::as_bytes(with_ranges("[4,8]", "[0,4]", 8)), "model.st"));
  const std::size_t data_begin = with_ranges("[0,4]", "[2,6]", 0).size();
  const auto byte = [&](std::size_t n) { return "byte " + std::to_string(data_begin + n); };
  expect_refused(with_ranges("[0,4]", "[2,6]", 6), {byte(2), "\"b\" (U8 [4]) overlaps", byte(4)});
  expect_refused(with_ranges("[0,4]", "[0,4]", 4), {byte(0), "overlaps"});
  expect_refused(with_ranges("[0,4]", "[5,9]", 9), {byte(4), "no tensor owns the 1 bytes"});
  expect_refused(with_ranges("[0,4]", "[4,8]", 11), {byte(8), "no tensor owns the last 3 bytes"});
}

TEST(SafeTensors, ABoolThatIsNeitherTrueNorFalseIsRefused) {
  std::string bytes = file_with(R"({"m":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})", 3);
  bytes.back() = '\2';
  expect_refused(bytes, {"byte " + std::to_string(bytes.size() - 1), "holds 2, neither 0 nor 1"});
}

/// Any truncation, and any change of any byte, either still gives a valid file or is refused with
/// an error: it never crashes (which the sanitizers check) and never throws anything else.
TEST(SafeTensors, NoDamagedFileDoesHarm) {
  const std::string good = file_with(
      R"({"__metadata__":{"k":"v"},"m":{"dtype":"BOOL","shape":[2,2],"data_offsets":[0,4]},)"
      R"("x":{"dtype":"F32","shape":[1,3],"data_offsets":[4,16]}})",
      16);
  const auto try_to_read = [](const std::string& bytes) {
    try {
      const SafeTensors file(test::as_bytes(bytes), "model.st");
      for (const std::string& name : file.names()) file.to_float(name);
      return true;
    } catch (const std::runtime_error& error) {
      EXPECT_TRUE(std::string_view(error.what()).starts_with("model.st: byte ")) << error.what();
      return false;
    }
  };
  ASSERT_TRUE(try_to_read(good));
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(try_to_read(good.substr(0, n))) << n;
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const int bit : {0, 1, 2, 3, 4, 5, 6, 7}) {
      std::string damaged = good;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      try_to_read(damaged);
    }
  }
}

TEST(SafeTensorsWriter, RefusesWhatWouldNotBeAValidFile) {
  SafeTensorsWriter writer;
  writer.add<float>("x", {1}, {1.0F});
  expect_error<std::invalid_argument>([&] { writer.add<float>("x", {1}, {1.0F}); },
                                      {"\"x\" exists already"});
  expect_error<std::invalid_argument>([&] { writer.add<float>("__metadata__", {1}, {1.0F}); },
                                      {"__metadata__"});
  expect_error<std::invalid_argument>(
      [&] {
        writer.add<float>("y", {2, 3}, {1.0F});
      },
      {"[2, 3] has 6 elements, got 1"});
  expect_error<std::invalid_argument>([&] { writer.add<float>("y", {-1}, {1.0F}); }, {"[-1]"});
}

TEST(SafeTensorsWriter, SaysWhereItCannotWriteAndLeavesNothingBehind) {
  const TemporaryFolder folder;
  SafeTensorsWriter writer;
  writer.add<float>("x", {1}, {1.0F});
  expect_error<std::runtime_error>([&] { writer.write(folder.path() / "no" / "such" / "x.st"); },
                                   {"x.st: cannot write"});
  expect_error<std::runtime_error>([&] { writer.write(folder.path()); }, {"not a regular file"});
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(SafeTensors, ReadsTheReferenceData) {
  GQA_NEEDS_SHARED_DATA("onnx/onnx_node.safetensors");
  const SafeTensors onnx(test::shared_data("onnx/onnx_node.safetensors"));
  EXPECT_EQ(onnx.names().size(), 559U);
  EXPECT_EQ(onnx.metadata().at("license"), "Apache-2.0");

  const SafeTensors io(test::shared_data("stories260K/attention_io.safetensors"));
  EXPECT_EQ(io.shape("q"), (std::vector<std::int64_t>{5, 256, 8, 8}));
  EXPECT_EQ(io.values<float>("o").size(), 5U * 256 * 8 * 8);

  const SafeTensors llama(test::shared_data("tiny_llama_hf/tiny_llama.safetensors"));
  EXPECT_EQ(llama.tensor("lm_head.weight").dtype, DType::bf16);
  EXPECT_EQ(llama.values<Eigen::bfloat16>("model.norm.weight").size(), 96U);
}

}  // namespace
}  // namespace gqa::examples
