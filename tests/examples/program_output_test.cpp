// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What programs print arrives, or they fail; and it arrives nowhere else: where stdin, stdout or
// stderr is closed, a file that is opened must not get its number.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "checkpoints.hpp"
#include "files.hpp"
#include "program.hpp"
#include "support/safetensors_writer.hpp"

namespace gqa::examples {
namespace {

using test::ProgramResult;
using test::TemporaryFolder;
namespace fs = std::filesystem;

/// Runs a program with these redirections of sh's.
ProgramResult run_with(const std::string& redirections, const std::string& program,
                       std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"-c", "exec \"$0\" \"$@\" " + redirections, program});
  return test::run_program("/bin/sh", arguments);
}

struct Printer {
  const char* name;
  std::string program;
  std::vector<std::string> arguments;
};

/// Programs that print to stdout, and nothing else.
std::vector<Printer> printers() {
  return {{"kv_memory", GQA_PROGRAM_example_kv_memory, {}},
          {"kv_memory", GQA_PROGRAM_example_kv_memory, {"--help"}},
          {"attend_file", GQA_PROGRAM_example_attend_file, {"--help"}},
          {"generate", GQA_PROGRAM_example_generate, {"--steps", "12"}},
          {"speculative", GQA_PROGRAM_example_speculative, {"--steps", "30"}},
          {"encoder_decoder", GQA_PROGRAM_example_encoder_decoder, {"word"}},
          {nullptr, GQA_PROGRAM_example_bring_your_own_parts, {}}};
}

TEST(Programs, FailIfWhatTheyPrintIsLost) {
  for (const Printer& printer : printers()) {
    SCOPED_TRACE(printer.program);
    const ProgramResult good = run_with("", printer.program, printer.arguments);
    EXPECT_EQ(good.status, 0) << good.err;
    EXPECT_NE(good.out, "");
    for (const std::string lost : {">/dev/full", ">&-", ">&- 2>&-", "<&- >&-"}) {
      const ProgramResult result = run_with(lost, printer.program, printer.arguments);
      EXPECT_EQ(result.status, 1) << lost << result.err;
      if (!printer.name || lost.find("2>&-") != lost.npos) continue;
      EXPECT_NE(result.err.find(std::string(printer.name) + ": cannot write to stdout: "),
                std::string::npos)
          << lost << result.err;
    }
  }
}

TEST(Programs, NeedNoStdoutToPrintNothing) {
  const TemporaryFolder folder;
  const fs::path in = folder.path() / "in", out = folder.path() / "out";
  SafeTensorsWriter file;
  for (const char* name : {"q", "k", "v"}) {
    file.add(name, {3, 2, 8}, std::vector<float>(3 * 2 * 8, 0.25F));
  }
  file.add("a name without meaning", {1}, std::vector<float>{0});  // which stderr says
  file.write(in);
  const auto attend = [&](const std::string& redirections) {
    fs::remove(out);
    const ProgramResult result =
        run_with(redirections, GQA_PROGRAM_example_attend_file, {in.string(), out.string()});
    EXPECT_EQ(result.status, 0) << redirections << result.err;
    return test::read_bytes(out);
  };
  const std::string whole = attend("");
  for (const std::string closed : {">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"}) {
    EXPECT_EQ(attend(closed), whole) << closed;
  }
}

TEST(Programs, WriteNoReportIntoTheirFiles) {
  const TemporaryFolder folder;
  const fs::path in = folder.path() / "in";
  test::write_checkpoint(in, 3);
  for (const std::string method : {"mean", "aligned"}) {
    const auto convert = [&](const std::string& redirections, const std::string& out) {
      return run_with(
          redirections, GQA_PROGRAM_example_convert_checkpoint,
          {in.string(), (folder.path() / out).string(), "--num-kv-heads", "1", "--method", method});
    };
    ASSERT_EQ(convert("", method).status, 0);
    // stderr and stdin may be closed
    for (const std::string closed : {"2>&-", "<&-", "<&- 2>&-"}) {
      const std::string out = method + closed;
      EXPECT_EQ(convert(closed, out).status, 0);
      for (const char* name : {"config.json", "model.safetensors"}) {
        EXPECT_EQ(test::read_bytes(folder.path() / out / name),
                  test::read_bytes(folder.path() / method / name))
            << closed;
      }
    }
    // Without its report, nothing is kept.
    for (const std::string lost : {">&-", ">/dev/full", "<&- >&- 2>&-"}) {
      EXPECT_EQ(convert(lost, "out").status, 1) << lost;
      EXPECT_FALSE(fs::exists(folder.path() / "out"));
    }
    EXPECT_NE(convert(">&-", "out").err.find("convert_checkpoint: cannot write to stdout: "),
              std::string::npos);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 9);
}

}  // namespace
}  // namespace gqa::examples
