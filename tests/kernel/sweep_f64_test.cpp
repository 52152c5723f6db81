// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "sweep.hpp"

namespace gqa::test {
namespace {

TEST(Sweep, F64_EqualsReference) { sweep<double, double, double>(Types::f64, 200); }

}  // namespace
}  // namespace gqa::test
