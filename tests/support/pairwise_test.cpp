// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "pairwise.hpp"

#include <gtest/gtest.h>

#include "attention_case.hpp"

namespace gqa::test {
namespace {

TEST(Pairwise, EveryLevelMeetsEveryOther) {
  const Levels counts = CaseLevels().counts();
  const std::vector<Levels> design = pairwise_design(counts);
  PairTable pairs(counts);
  for (const Levels& row : design) pairs.meet_all(row);
  for (std::size_t f = 0; f < counts.size(); ++f) {
    for (std::size_t g = 0; g < f; ++g) {
      for (Index a = 0; a < counts[f]; ++a) {
        for (Index b = 0; b < counts[g]; ++b) {
          EXPECT_TRUE(pairs.met(f, a, g, b))
              << "factors " << f << " and " << g << ", levels " << a << " and " << b;
        }
      }
    }
  }
}

TEST(Pairwise, DesignIsNotMuchLargerThanItMustBe) {
  // The two largest factors alone need the product of their sizes.
  Levels counts = CaseLevels().counts();
  const auto cases = std::ssize(pairwise_design(counts));
  std::sort(counts.rbegin(), counts.rend());
  EXPECT_GE(cases, counts[0] * counts[1]);
  EXPECT_LE(cases, counts[0] * counts[1] * 5 / 4);
}

}  // namespace
}  // namespace gqa::test
