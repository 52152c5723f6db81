// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A pairwise covering design: few cases among which every level of every factor meets every level
// of every other one. Most bugs need two conditions to meet, few need three (Kuhn et al. 2004), and
// all combinations of a dozen factors would be billions.
#pragma once

#include <vector>

#include "random.hpp"

namespace gqa::test {

/// One case: the level of each factor.
using Levels = std::vector<Index>;

/// Which pairs of levels have met.
class PairTable {
 public:
  explicit PairTable(const Levels& level_counts) : counts_(level_counts) {
    for (const Index n : counts_) {
      first_.push_back(total_);
      total_ += n;
    }
    met_.assign(static_cast<std::size_t>(total_ * total_), false);
  }
  bool met(std::size_t f, Index a, std::size_t g, Index b) const { return met_[at(f, a, g, b)]; }
  void meet(std::size_t f, Index a, std::size_t g, Index b) {
    met_[at(f, a, g, b)] = met_[at(g, b, f, a)] = true;
  }
  void meet_all(const Levels& levels) {
    for (std::size_t f = 0; f < levels.size(); ++f) {
      for (std::size_t g = 0; g < f; ++g) meet(f, levels[f], g, levels[g]);
    }
  }
  const Levels& counts() const { return counts_; }

 private:
  std::size_t at(std::size_t f, Index a, std::size_t g, Index b) const {
    return static_cast<std::size_t>((first_[f] + a) * total_ + first_[g] + b);
  }

  Levels counts_;
  Levels first_;
  Index total_ = 0;
  std::vector<bool> met_;
};

/// Cases that cover all pairs of the factors' levels. Greedy: a case begins with a pair that has
/// not met yet; each other factor takes the level that meets most levels for the first time. The
/// same cases for the same `level_counts` on every machine.
inline std::vector<Levels> pairwise_design(const Levels& level_counts) {
  const std::size_t factors = level_counts.size();
  PairTable pairs(level_counts);
  Random random(factors);
  std::vector<Levels> design;

  const auto complete = [&](std::size_t f, Index a, std::size_t g, Index b) {
    Levels levels(factors, -1);  // -1: still open
    levels[f] = a;
    levels[g] = b;
    for (std::size_t h = 0; h < factors; ++h) {
      if (levels[h] >= 0) continue;
      Index best_gain = -1;
      const Index start = random.integer(0, level_counts[h] - 1);  // ties go to a random level
      for (Index i = 0; i < level_counts[h]; ++i) {
        const Index level = (start + i) % level_counts[h];
        Index gain = 0;
        for (std::size_t other = 0; other < factors; ++other) {
          if (other == h || levels[other] < 0) continue;
          gain += pairs.met(h, level, other, levels[other]) ? 0 : 1;
        }
        if (gain > best_gain) {
          best_gain = gain;
          levels[h] = level;
        }
      }
    }
    pairs.meet_all(levels);
    design.push_back(levels);
  };

  for (std::size_t f = 0; f < factors; ++f) {
    for (std::size_t g = 0; g < f; ++g) {
      for (Index a = 0; a < level_counts[f]; ++a) {
        for (Index b = 0; b < level_counts[g]; ++b) {
          if (!pairs.met(f, a, g, b)) complete(f, a, g, b);
        }
      }
    }
  }
  return design;
}

}  // namespace gqa::test
