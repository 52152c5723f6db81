// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Whole messages of exceptions: a test that compares them sees a wrong or missing number.
#pragma once

#include <stdexcept>
#include <string>
#include <typeinfo>

namespace gqa::test {

/// The message of the exception that f throws, which must be of this very type.
template <typename Error = std::invalid_argument, typename F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return typeid(error) == typeid(Error) ? error.what() : std::string("another type of exception");
  }
  return "no exception";
}

}  // namespace gqa::test
