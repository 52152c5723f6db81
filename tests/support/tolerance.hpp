// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Comparisons within the tolerances of row_scale.hpp.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "support/row_scale.hpp"

namespace gqa::test {

/// Is `actual` within `tolerance` of `expected`? Infinities and NaN must be the same in both.
inline bool is_within(double actual, double expected, double tolerance) {
  if (std::isnan(expected)) return std::isnan(actual);
  if (std::isinf(expected)) return actual == expected;
  return std::abs(actual - expected) <= tolerance;  // false for a NaN
}

/// Collects comparisons of one tensor and fails once, naming the worst element.
class Comparison {
 public:
  explicit Comparison(std::string what) : what_(std::move(what)) {}

  /// `where()` names the element; it is asked only for failures.
  template <typename Name>
  void add(double actual, double expected, double tolerance, const Name& where) {
    ++count_;
    const bool comparable = std::isfinite(expected) && std::isfinite(actual);
    const double error = std::abs(actual - expected);
    if (comparable && tolerance > 0) worst_ratio_ = std::max(worst_ratio_, error / tolerance);
    if (is_within(actual, expected, tolerance)) return;
    ++failures_;
    // One that isn't finite, or else the worst, is the one to look at.
    const double badness = comparable ? error : std::numeric_limits<double>::infinity();
    if (badness <= badness_) return;
    badness_ = badness;
    std::snprintf(text_, sizeof text_,
                  "%s is %.9g, expected %.9g, off by %.3g where %.3g is allowed", where().c_str(),
                  actual, expected, error, tolerance);
  }

  /// The largest error in units of its tolerance.
  double worst_ratio() const { return worst_ratio_; }

  /// One GoogleTest failure, if there was any.
  void expect_all() const {
    EXPECT_EQ(failures_, 0) << what_ << ": " << failures_ << " of " << count_
                            << " numbers are off, the worst: " << text_;
  }

 private:
  std::string what_;
  char text_[256] = "";
  long count_ = 0;
  long failures_ = 0;
  double badness_ = 0;
  double worst_ratio_ = 0;
};

}  // namespace gqa::test
