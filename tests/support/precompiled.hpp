// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What nearly every test includes, precompiled once for all of them, and the register tiles, the
// bulk of a kernel's code, compiled once in tiles.cpp. Tests still include what they use: those for
// other instruction sets do without this file.
#pragma once

#include <gtest/gtest.h>

#include <gqa/gqa.hpp>

#define GQA_TEST_TILES_OF(declare, Storage, T)                                                   \
  declare void multiply_keys(Index, const StripLayout<Storage>&, const QueryFactor<Storage>*,    \
                             const Storage*, int, int, T*, std::uintptr_t);                      \
  declare void multiply_values(Index, const StripLayout<Storage>&, const WeightFactor<Storage>*, \
                               const Storage*, Index, Index, Index, Index, T*, const T*,         \
                               std::uintptr_t)
#define GQA_TEST_TILES(declare)                \
  GQA_TEST_TILES_OF(declare, float, float);    \
  GQA_TEST_TILES_OF(declare, double, double);  \
  GQA_TEST_TILES_OF(declare, bfloat16, float); \
  GQA_TEST_TILES_OF(declare, half, float);     \
  GQA_TEST_TILES_OF(declare, Int8, float);     \
  GQA_TEST_TILES_OF(declare, Int4, float)

namespace gqa {
inline namespace GQA_ISA {
GQA_TEST_TILES(extern template);
}
}  // namespace gqa
