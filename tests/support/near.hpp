// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Comparing whole tensors with stored ones: one failure per tensor, which names the worst element.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

namespace gqa::test {

/// Every element within `tolerance` (absolute) of the expected one. Infinities and NaN must be the
/// same in both.
template <typename T, typename U>
void expect_near(const std::vector<T>& actual, const std::vector<U>& expected, double tolerance,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double worst = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double a = static_cast<double>(actual[i]), b = static_cast<double>(expected[i]);
    if (a == b || (std::isnan(a) && std::isnan(b))) continue;
    const bool finite = std::isfinite(a) && std::isfinite(b);
    const double error = finite ? std::abs(a - b) : std::numeric_limits<double>::infinity();
    if (error > worst) {
      worst = error;
      at = i;
    }
  }
  EXPECT_LE(worst, tolerance) << what << ": element " << at << " is "
                              << (actual.empty() ? 0.0 : static_cast<double>(actual[at]))
                              << ", expected "
                              << (actual.empty() ? 0.0 : static_cast<double>(expected[at]));
}

}  // namespace gqa::test
