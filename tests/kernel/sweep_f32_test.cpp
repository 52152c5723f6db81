// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "sweep.hpp"

namespace gqa::test {
namespace {

TEST(Sweep, F32_EqualsReference) { sweep<float, float, float>(Types::f32, 400); }

}  // namespace
}  // namespace gqa::test
