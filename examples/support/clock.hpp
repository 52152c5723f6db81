// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#pragma once

#include <chrono>

namespace gqa::examples {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace gqa::examples
