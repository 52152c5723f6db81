// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <iostream>

namespace gqa::examples {

/// Parses, runs, and reports errors on stderr with exit status 1.
template <typename Run>
int run_program(CLI::App& app, int argc, char** argv, Run run) {
  try {
    app.parse(argc, argv);
    run();
    return std::cout.flush() && std::fflush(stdout) == 0 ? 0 : 1;
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    app.exit(error, std::cerr, std::cerr);
  } catch (const std::exception& error) {
    std::cerr << app.get_name() << ": " << error.what() << "\n";
  }
  return 1;
}

}  // namespace gqa::examples
