// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What attention_bench measures, and what the figures should be: the shapes of the table in
// bench/README.md, each with the least that is accepted and what is aimed at.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "support/work.hpp"

namespace gqa::bench {

/// What a goal is about. The ratios are of two cases that run in turn, the first over the second.
enum class Figure {
  roofline,        ///< share of the machine's limit: large is good
  time_ratio,      ///< small is good
  speed_up,        ///< the same ratio where large is good
  roofline_ratio,  ///< large is good
};

const char* name_of(Figure figure);
constexpr bool small_is_good(Figure figure) { return figure == Figure::time_ratio; }

struct Goal {
  Figure figure = Figure::roofline;
  double accepted = 0;
  double aim = 0;
};

/// A line of the benchmark: a case, or two that are compared.
struct Entry {
  std::string name;
  Case first;
  std::optional<Case> second = std::nullopt;
  std::optional<Goal> goal = std::nullopt;
};

/// Everything, in the order in which tensors are shared by neighbours.
std::vector<Entry> entries();

/// What a line came to.
struct Measured {
  double seconds = 0;         ///< of a call, the median
  double roofline = 0;        ///< median of the rounds' shares
  double time_ratio = 0;      ///< median; of two cases only
  double roofline_ratio = 0;  ///< likewise

  double figure(Figure f) const {
    switch (f) {
      case Figure::roofline:
        return roofline;
      case Figure::time_ratio:
      case Figure::speed_up:
        return time_ratio;
      case Figure::roofline_ratio:
        return roofline_ratio;
    }
    return 0;
  }
};

/// "aim", "yes" or "NO".
const char* verdict(const Goal& goal, double figure);

}  // namespace gqa::bench
