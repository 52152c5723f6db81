// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "sweep.hpp"

namespace gqa::test {
namespace {

TEST(Sweep, F16_EqualsReference) { sweep<half, half, half>(Types::f16, 200); }

}  // namespace
}  // namespace gqa::test
