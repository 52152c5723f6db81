// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What figures are reported with: whose machine it was.
#pragma once

#include <fstream>
#include <string>

namespace gqa::bench {

inline std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

}  // namespace gqa::bench
