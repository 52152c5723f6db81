// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A difference that can be put through std::max: with a NaN, the other number would win.
#pragma once

#include <cmath>
#include <limits>

namespace gqa::test {

/// |a - b|; infinity if that isn't a number.
inline double difference(double a, double b) {
  const double d = std::abs(a - b);
  return std::isnan(d) ? std::numeric_limits<double>::infinity() : d;
}

}  // namespace gqa::test
