// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Programs that a signal ends, of any kind: nothing half done stays behind, and no work is lost
// that could be saved.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <set>
#include <string>
#include <vector>

#include "checkpoints.hpp"
#include "files.hpp"
#include "program.hpp"

namespace gqa::examples {
namespace {

using test::TemporaryFolder;
namespace fs = std::filesystem;

std::set<std::string> names(const fs::path& folder) {
  std::set<std::string> result;
  for (const auto& entry : fs::directory_iterator(folder)) {
    result.insert(entry.path().filename().string());
  }
  return result;
}

/// A program that is stopped by its own report: nobody reads it, and the pipe takes one page.
class StartedProgram {
 public:
  /// `ignored`: a signal that it is started to ignore, as by nohup; or 0.
  StartedProgram(std::vector<std::string> command, int ignored) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    ::fcntl(ends[1], F_SETPIPE_SZ, 4096);
    child_ = ::fork();
    if (child_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::dup2(::open("/dev/null", O_RDWR), STDERR_FILENO);
      if (ignored != 0) std::signal(ignored, SIG_IGN);
      std::vector<char*> arguments;
      for (std::string& argument : command) arguments.push_back(argument.data());
      arguments.push_back(nullptr);
      ::execv(arguments[0], arguments.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    report_ = ends[0];
    char first;
    begun_ = ::read(report_, &first, 1) == 1;
  }
  bool begun() const { return begun_; }
  void send(int number) const { ::kill(child_, number); }
  void close_report() { ::close(std::exchange(report_, -1)); }

  /// Reads what it has to say, and returns waitpid()'s status.
  int end() {
    char bytes[4096];
    while (report_ >= 0 && ::read(report_, bytes, sizeof bytes) > 0) {
    }
    if (report_ >= 0) close_report();
    int status = 0;
    ::waitpid(child_, &status, 0);
    return status;
  }

 private:
  ::pid_t child_ = 0;
  int report_ = -1;
  bool begun_ = false;
};

class InterruptedConversion : public testing::Test {
 protected:
  InterruptedConversion() { test::write_checkpoint(in, 150); }  // 150 lines are more than a page
  StartedProgram start(int ignored = 0) const {
    return {{GQA_PROGRAM_example_convert_checkpoint, in.string(), out.string(), "--num-kv-heads",
             "1", "--method", "mean"},
            ignored};
  }
  /// Beside IN, there is one folder, which isn't OUT yet.
  void expect_partial() const {
    const auto all = names(folder.path());
    ASSERT_EQ(all.size(), 2U);
    EXPECT_TRUE(all.rbegin()->starts_with("out.partial-")) << *all.rbegin();
  }
  const TemporaryFolder folder;
  const fs::path in = folder.path() / "in", out = folder.path() / "out";
};

TEST_F(InterruptedConversion, LeavesNothingBehind) {
  for (const int number : {SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU}) {
    SCOPED_TRACE(number);
    StartedProgram program = start();
    ASSERT_TRUE(program.begun());
    expect_partial();
    program.send(number);
    const int status = program.end();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
    EXPECT_EQ(names(folder.path()), std::set<std::string>{"in"});
  }
}

TEST_F(InterruptedConversion, LeavesNothingBehindIfItsReportIsNotReadToTheEnd) {
  StartedProgram program = start();
  ASSERT_TRUE(program.begun());
  expect_partial();
  program.close_report();  // as by head -1: SIGPIPE
  const int status = program.end();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
  EXPECT_EQ(names(folder.path()), std::set<std::string>{"in"});
}

TEST_F(InterruptedConversion, GoesOnAfterSignalsThatItWasStartedToIgnore) {
  for (const int number : {SIGHUP, SIGINT, SIGQUIT}) {
    StartedProgram program = start(number);
    ASSERT_TRUE(program.begun());
    program.send(number);
    const int status = program.end();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << number << ": " << status;
    EXPECT_EQ(names(folder.path()), (std::set<std::string>{"in", "out"}));
    fs::remove_all(out);
  }
}

TEST(InterruptedTraining, KeepsItsStateWhateverTheSignal) {
  const TemporaryFolder folder;
  const fs::path text = folder.file("text", std::string(4000, 'a') + std::string(4000, 'b'));
  for (const std::string number : {"HUP", "QUIT", "TERM", "USR1"}) {
    const fs::path out = folder.path() / number;
    const auto result = test::run_program(
        "timeout", {"-s",          number,       "1",         GQA_PROGRAM_example_train,
                    text.string(), out.string(), "--dim",     "16",
                    "--layers",    "1",          "--heads",   "2",
                    "--kv-heads",  "1",          "--context", "16",
                    "--batch",     "2",          "--steps",   "10000000"});
    EXPECT_NE(result.err.find("interrupted at step "), std::string::npos) << result.err;
    EXPECT_TRUE(fs::exists(out.string() + ".state")) << number;
    fs::remove(out.string() + ".state");
  }
  EXPECT_EQ(names(folder.path()), std::set<std::string>{"text"});
}

}  // namespace
}  // namespace gqa::examples
