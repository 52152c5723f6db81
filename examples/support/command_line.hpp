// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Programs with options, and options that take what they say and nothing else.
#pragma once

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/program.hpp"

namespace gqa::examples {

/// What is wrong with the text of a T, or "". CLI11 alone takes the nearest number that fits for
/// one that doesn't, -1 for the largest, nothing for 0, and NaN for a number within any limits.
template <typename T>
std::string fault_of(const std::string& text) {
  if (text.empty()) return "is empty";
  if constexpr (std::is_floating_point_v<T>) {
    const bool finite = std::isfinite(static_cast<T>(std::strtold(text.c_str(), nullptr)));
    return finite ? "" : text + " is not a finite number";
  } else if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    const bool negative = text.find('-') != std::string::npos;
    errno = 0;
    const bool fits = negative ? std::in_range<T>(std::strtoll(text.c_str(), nullptr, 0))
                               : std::in_range<T>(std::strtoull(text.c_str(), nullptr, 0));
    if (fits && errno != ERANGE) return "";
    return text + " is outside of [" + std::to_string(std::numeric_limits<T>::min()) + ", " +
           std::to_string(std::numeric_limits<T>::max()) + "]";
  } else {
    return "";
  }
}

/// The type of one element of an option's value.
template <typename T>
struct OptionElement {
  using Type = T;
};
template <typename T>
struct OptionElement<std::vector<T>> : OptionElement<T> {};
template <typename T>
struct OptionElement<std::optional<T>> : OptionElement<T> {};

/// As app.add_option(), for numbers that the type has, and for text that isn't empty (which a
/// prompt may be: there, app.add_option() is right).
template <typename T>
CLI::Option* add_option(CLI::App& app, const std::string& name, T& value,
                        const std::string& description) {
  return app.add_option(name, value, description)
      ->check(CLI::Validator(
          [](std::string& text) { return fault_of<typename OptionElement<T>::Type>(text); }, ""));
}

/// Parses and runs as run_program() above does; the command line's errors have exit status 1, too.
template <typename Run>
int run_program(CLI::App& app, int argc, char** argv, Run run) {
  return run_program(app.get_name(), [&] {
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& help) {
      return app.exit(help);
    } catch (const CLI::ParseError& error) {
      app.exit(error, std::cerr, std::cerr);
      return 1;
    }
    return status_of(run);
  });
}

}  // namespace gqa::examples
