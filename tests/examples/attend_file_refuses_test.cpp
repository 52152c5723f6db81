// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What attend_file must not do without a word: write over its input, and take arguments that mean
// nothing.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "files.hpp"
#include "program.hpp"
#include "support/safetensors.hpp"
#include "support/safetensors_writer.hpp"

namespace gqa::examples {
namespace {

using test::expect_refusal;
using test::read_bytes;
using test::TemporaryFolder;
namespace fs = std::filesystem;

class AttendFileRefuses : public testing::Test {
 protected:
  AttendFileRefuses() {
    const std::vector<float> ones(2 * 3 * 2 * 8, 1.0F);
    for (const char* name : {"q", "k", "v"}) writer.add(name, {2, 3, 2, 8}, ones);
    writer.write(in);
  }
  test::ProgramResult run(const fs::path& to, std::vector<std::string> options = {}) const {
    options.insert(options.begin(), {in.string(), to.string()});
    return test::run_program(GQA_PROGRAM_example_attend_file, options);
  }
  const TemporaryFolder folder;
  const fs::path in = folder.path() / "in", out = folder.path() / "out";
  SafeTensorsWriter writer;
};

TEST_F(AttendFileRefuses, ItsInputAsItsOutput) {
  const std::string before = read_bytes(in);
  const fs::path link = folder.path() / "link", twin = folder.path() / "twin";
  fs::create_symlink("in", link);
  fs::create_hard_link(in, twin);
  fs::create_directory_symlink(folder.path(), folder.path() / "folder");
  for (const fs::path& same :
       {in, link, twin, folder.path() / "." / "in", folder.path() / "folder" / "link"}) {
    expect_refusal(run(same), {same.string() + ": is the input, " + in.string()});
    EXPECT_EQ(read_bytes(in), before);
    EXPECT_TRUE(fs::is_symlink(link));
  }
  EXPECT_EQ(run(out).status, 0);
  EXPECT_EQ(run(out).status, 0) << "an earlier output may be written over";
}

TEST_F(AttendFileRefuses, NumbersThatAreNone) {
  for (const std::string option : {"--scale", "--soft-cap"}) {
    for (const std::string number : {"nan", "-nan", "inf", "-inf", "1e999", ""}) {
      expect_refusal(run(out, {option, number}), {option});
    }
  }
  for (const std::string option : {"--hf-window", "--window-left", "--prefix-lm", "--threads"}) {
    expect_refusal(run(out, {option, "9223372036854775808"}), {option});
    expect_refusal(run(out, {option, "-1"}), {option});
  }
  expect_refusal(run(""), {"OUT"});
  EXPECT_FALSE(fs::exists(out));
}

TEST_F(AttendFileRefuses, PrefixesOfANegativeLength) {
  const auto expect_byte = [&](std::size_t element_bytes) {
    writer.write(in);
    const auto byte = SafeTensors(in).tensor("prefix_lens").byte + element_bytes;
    expect_refusal(run(out), {in.string() + ": byte " + std::to_string(byte),
                              "\"prefix_lens\" holds -1, a negative length"});
  };
  SafeTensorsWriter narrow = writer;
  writer.add<std::int64_t>("prefix_lens", {2}, {0, -1});
  expect_byte(8);
  writer = narrow;
  writer.add<std::int32_t>("prefix_lens", {2}, {3, -1});
  expect_byte(4);
  writer = narrow;
  writer.add<std::int64_t>("prefix_lens", {2}, {0, 2});
  writer.write(in);
  EXPECT_EQ(run(out).status, 0);
}

}  // namespace
}  // namespace gqa::examples
