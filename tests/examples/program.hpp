// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Runs a program as a user does, for its exit status and what it writes.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "files.hpp"

namespace gqa::test {

struct ProgramResult {
  int status = -1;  ///< what it exited with; 128 and the signal's number more if one ended it
  std::string out;  ///< stdout
  std::string err;  ///< stderr
};

inline ProgramResult run_program(const std::string& program,
                                 const std::vector<std::string>& arguments) {
  const auto quoted = [](std::string_view text) {  // for sh
    std::string result = "'";
    for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return result + "'";
  };
  const TemporaryFolder folder;
  const auto out = folder.path() / "out", err = folder.path() / "err";
  std::string command = quoted(program);
  for (const std::string& argument : arguments) command += " " + quoted(argument);
  command += " </dev/null >" + quoted(out.string()) + " 2>" + quoted(err.string());
  const int code = std::system(command.c_str());
  ProgramResult result;
  result.status = WIFEXITED(code) ? WEXITSTATUS(code) : 128 + WTERMSIG(code);
  result.out = read_bytes(out);
  result.err = read_bytes(err);
  return result;
}

/// The program must exit with 1, write nothing to stdout, and each of `parts` to stderr.
inline void expect_refusal(const ProgramResult& result,
                           std::initializer_list<std::string_view> parts) {
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_EQ(result.out, "");
  for (const std::string_view part : parts) {
    EXPECT_NE(result.err.find(part), std::string::npos)
        << "\"" << part << "\" is missing in: " << result.err;
  }
}

}  // namespace gqa::test
