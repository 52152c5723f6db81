// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Files that take the place of others: whole or not at all, with nothing left beside them, and
// nothing touched that is not theirs.

#include "support/file_writer.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <set>
#include <string>
#include <thread>

#include "files.hpp"
#include "support/safetensors.hpp"
#include "support/safetensors_writer.hpp"

namespace gqa::examples {
namespace {

using test::expect_error;
using test::read_bytes;
using test::TemporaryFolder;
namespace fs = std::filesystem;

void write_numbers(const fs::path& path, std::size_t count) {
  FileWriter file;
  file.put(std::span<const float>(std::vector<float>(count, 1.5F)));
  file.write(path);
}
void write_tensors(const fs::path& path, std::size_t count) {
  SafeTensorsWriter file;
  file.add("a", {static_cast<std::int64_t>(count)}, std::vector<float>(count, 1.5F));
  file.write(path);
}
/// Everything that writes files this way.
class FileWriters : public testing::TestWithParam<void (*)(const fs::path&, std::size_t)> {
 protected:
  void write(const fs::path& path, std::size_t count = 3) const { GetParam()(path, count); }
  std::set<std::string> names() const {
    std::set<std::string> result;
    for (const auto& entry : fs::directory_iterator(folder.path())) {
      result.insert(entry.path().filename().string());
    }
    return result;
  }
  const TemporaryFolder folder;
  const fs::path out = folder.path() / "out";
};
INSTANTIATE_TEST_SUITE_P(All, FileWriters, testing::Values(&write_numbers, &write_tensors),
                         [](const auto& which) {
                           return which.param == &write_numbers ? "Numbers" : "Tensors";
                         });

TEST_P(FileWriters, LeaveOtherFilesAndLinksBesideTheirsAlone) {
  const fs::path mine = folder.file("mine", "a user's text");
  folder.file("out.partial", "another text");
  fs::create_symlink(mine, folder.path() / "link.partial");
  write(out);
  write(folder.path() / "link");
  EXPECT_EQ(read_bytes(mine), "a user's text");
  EXPECT_EQ(read_bytes(folder.path() / "out.partial"), "another text");
  EXPECT_TRUE(fs::is_symlink(folder.path() / "link.partial"));
  EXPECT_FALSE(fs::is_symlink(folder.path() / "link"));
  EXPECT_EQ(names(), (std::set<std::string>{"link", "link.partial", "mine", "out", "out.partial"}));
}

TEST_P(FileWriters, ReplaceAFileOrALinkButNotWhatTheLinkPointsTo) {
  folder.file("out", "old");
  const fs::path target = folder.file("target", "what a link points to");
  const fs::path link = folder.path() / "link", nowhere = folder.path() / "nowhere";
  fs::create_symlink(target, link);
  fs::create_symlink("no such file", nowhere);
  const fs::path twin = folder.path() / "twin";
  fs::create_hard_link(target, twin);
  for (const fs::path& path : {out, link, nowhere, twin}) {
    write(path);
    EXPECT_FALSE(fs::is_symlink(path)) << path;
    EXPECT_EQ(read_bytes(path), read_bytes(out)) << path;
  }
  EXPECT_EQ(read_bytes(target), "what a link points to");
  EXPECT_EQ(names(), (std::set<std::string>{"link", "nowhere", "out", "target", "twin"}));
}

TEST_P(FileWriters, TakeTheLongestName) {
  write(folder.path() / std::string(255, 'x'));
  EXPECT_EQ(names(), std::set<std::string>{std::string(255, 'x')});
}

TEST_P(FileWriters, FollowTheUmask) {
  const ::mode_t before = ::umask(0027);
  write(out);
  ::umask(before);
  EXPECT_EQ(fs::status(out).permissions(), fs::perms{0640});
}

TEST_P(FileWriters, RefuseWhatIsNoFile) {
  fs::create_directory(folder.path() / "folder");
  fs::create_symlink("/dev/null", folder.path() / "null");
  expect_error<std::runtime_error>([&] { write(folder.path() / "folder"); },
                                   {"folder: not a regular file"});
  expect_error<std::runtime_error>([&] { write(folder.path() / "null"); },
                                   {"null: not a regular file"});
  expect_error<std::runtime_error>([&] { write(folder.path() / "no" / "x"); },
                                   {"no/x: cannot write ", "No such file"});
  expect_error<std::runtime_error>([&] { write(folder.path() / std::string(256, 'x')); },
                                   {"xxx: cannot write ", "too long"});
  expect_error<std::runtime_error>([&] { write(""); }, {": cannot write "});
  EXPECT_EQ(names(), (std::set<std::string>{"folder", "null"}));
}

/// In a process of its own. Returns waitpid()'s status.
int in_child(const std::function<void()>& run, const std::function<void(::pid_t)>& meanwhile) {
  const ::pid_t child = ::fork();
  if (child == 0) {
    try {
      run();
    } catch (const std::runtime_error&) {
      ::_exit(1);
    }
    ::_exit(0);
  }
  meanwhile(child);
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST_P(FileWriters, LeaveNothingWhereTheDiskIsFull) {
  folder.file("out", "old");
  const auto too_much = [&] {
    const ::rlimit limit{.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    std::signal(SIGXFSZ, SIG_IGN);
    write(out, 1 << 20);
  };
  const int status = in_child(too_much, [](::pid_t) {});
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
  EXPECT_EQ(read_bytes(out), "old");
  EXPECT_EQ(names(), std::set<std::string>{"out"});
}

TEST_P(FileWriters, FinishBeforeASignalEndsTheProgram) {
  write(out, 1 << 20);
  const std::string whole = read_bytes(out);
  for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGXCPU}) {
    const int status = in_child(
        [&] {
          for (;;) write(out, 1 << 20);
        },
        [&](::pid_t child) {
          std::this_thread::sleep_for(std::chrono::milliseconds(60 + number));
          ::kill(child, number);
        });
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == number) << number << ": " << status;
    EXPECT_EQ(read_bytes(out), whole);
    EXPECT_EQ(names(), std::set<std::string>{"out"}) << number;
  }
}

TEST(CheckNotInput, KnowsAFileByItsLinks) {
  const TemporaryFolder folder;
  const fs::path in = folder.file("in", "text");
  fs::create_symlink("in", folder.path() / "link");
  fs::create_hard_link(in, folder.path() / "twin");
  for (const fs::path& same :
       {in, folder.path() / "link", folder.path() / "twin", folder.path() / "." / "in"}) {
    expect_error<std::runtime_error>([&] { check_not_input(same, in); },
                                     {same.string() + ": is the input, " + in.string()});
  }
  check_not_input(folder.path() / "out", in);
  check_not_input(folder.file("copy", "text"), in);
  check_not_input(in, folder.path() / "none");
}

}  // namespace
}  // namespace gqa::examples
