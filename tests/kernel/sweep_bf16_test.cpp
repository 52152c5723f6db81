// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "sweep.hpp"

namespace gqa::test {
namespace {

TEST(Sweep, BF16_EqualsReference) { sweep<bfloat16, bfloat16, bfloat16>(Types::bf16, 200); }

}  // namespace
}  // namespace gqa::test
