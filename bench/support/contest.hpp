// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What one table of compare is made of: a step of attention, done with several numbers of KV heads
// by the library and by the baseline, all checked first and then measured in turn.
#pragma once

#include <gqa/gqa.hpp>
#include <optional>
#include <vector>

#include "support/check.hpp"
#include "support/table.hpp"

namespace gqa::bench {

/// q_len tokens enter a cache that holds kv_len - q_len, and attend to what is before them.
struct Step {
  Index num_heads = 32;
  Index head_dim = 128;
  Index kv_len = 0;
  Index q_len = 0;
};

struct Result {
  double seconds = 0;  ///< median of a step
  double spread = 0;   ///< middle half of the rounds / median
  Agreement agreement;
};

/// A line of a table.
struct Line {
  Index num_kv_heads = 0;
  Index kv_bytes = 0;  ///< of the library's cache
  std::size_t rounds = 0;
  Result library;
  std::optional<Result> baseline;
};

struct ContestOptions {
  std::vector<Index> kv_heads;
  Index threads = 1;
  bool baseline = true;
  Index repetitions = 0;  ///< rounds; 0: as many as fit into `seconds`, 3 to 31
  double seconds = 12;
};

/// All lines of a table, and the limits of the machine in the meantime.
struct Outcome {
  std::vector<Line> lines;
  double bandwidth = 0;  ///< bytes per second
  double flops = 0;      ///< per second
};

/// Measures a step with each number of KV heads, interleaved. For float, bfloat16 and half.
template <Scalar Storage>
Outcome run_contest(const Step& step, const ContestOptions& options, Progress& progress);

}  // namespace gqa::bench
