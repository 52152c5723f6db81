// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "sweep.hpp"

namespace gqa::test {
namespace {

TEST(Sweep, F32OverBF16_EqualsReference) {
  sweep<float, bfloat16, float, true>(Types::f32_over_bf16, 100);
}
TEST(Sweep, F32OverF16_EqualsReference) {
  sweep<float, half, float, true>(Types::f32_over_f16, 100);
}
TEST(Sweep, BF16OverF32ToF16_EqualsReference) {
  sweep<bfloat16, float, half, true>(Types::bf16_over_f32_to_f16, 100);
}
TEST(Sweep, F16OverBF16ToF32_EqualsReference) {
  sweep<half, bfloat16, float, true>(Types::f16_over_bf16_to_f32, 100);
}

}  // namespace
}  // namespace gqa::test
