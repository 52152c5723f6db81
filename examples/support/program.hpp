// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What each program's main() does around its work (POSIX): what is printed arrives or the program
// fails, and errors go to stderr. command_line.hpp adds options.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace gqa::examples {

/// Descriptors 0 to 2 are open when this returns. Where one was closed, the next file to be opened
/// would get its number, and what is printed would be written into that file. Who reads or writes
/// what was closed still gets an error. Throws std::runtime_error.
inline void open_standard_descriptors() {
  for (const int number : {0, 1, 2}) {
    if (::fcntl(number, F_GETFD) >= 0 || errno != EBADF) continue;
    const int opened = ::open("/dev/null", number == 0 ? O_WRONLY : O_RDONLY);
    if (opened != number) {
      throw std::runtime_error("descriptor " + std::to_string(number) +
                               " is closed, and /dev/null cannot be opened in its place");
    }
  }
}

/// Throws std::runtime_error unless all that was printed has been taken.
inline void flush_stdout() {
  errno = 0;
  const bool flushed = std::fflush(stdout) == 0 && std::cout.flush().good();
  if (flushed && std::ferror(stdout) == 0) return;
  throw std::runtime_error(std::string("cannot write to stdout: ") +
                           (errno != 0 ? std::strerror(errno) : "a part was lost"));
}

/// What `run` returns, or 0 if it returns nothing.
template <typename Run>
int status_of(Run& run) {
  if constexpr (std::is_void_v<decltype(run())>) {
    run();
    return 0;
  } else {
    return run();
  }
}

/// Runs what a program does and reports what it throws on stderr. Returns the exit status: 1 for an
/// error or if what was printed is lost, otherwise what `run` returns, or 0.
template <typename Run>
int run_program(const std::string& name, Run run) {
  try {
    open_standard_descriptors();
    std::signal(SIGXFSZ, SIG_IGN);  // a limit on the size of files is an error to report
    const int status = status_of(run);
    flush_stdout();
    return status;
  } catch (const std::exception& error) {
    std::cerr << name << ": " << error.what() << "\n";
  }
  return 1;
}

}  // namespace gqa::examples
