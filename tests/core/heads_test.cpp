// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Heads, static, dynamic and mixed. Wrong static combinations: tests/packaging/must_not_compile.
#include "gqa/core/heads.hpp"

#include <gtest/gtest.h>

#include "support/errors.hpp"

namespace gqa::test {
namespace {

TEST(Heads, StaticOnesAreInTheType) {
  constexpr Heads<32, 8, 128> heads;
  static_assert(heads.num_heads() == 32 && heads.num_kv_heads() == 8 && heads.head_dim() == 128);
  static_assert(heads.value_dim() == 128 && heads.group() == 4 && heads.is_static);
  static_assert(sizeof(heads) <= 4);  // nothing is stored
  static_assert(heads.kv_head_of(0) == 0 && heads.kv_head_of(3) == 0 && heads.kv_head_of(4) == 1 &&
                heads.kv_head_of(31) == 7);
  static_assert(Heads<4, 2, 8, 16>().value_dim() == 16);
  SUCCEED();
}

TEST(Heads, DynamicOnesAreGivenAtRunTime) {
  const Heads<> heads(12, 4, 33, 65);
  EXPECT_EQ(heads.num_heads(), 12);
  EXPECT_EQ(heads.num_kv_heads(), 4);
  EXPECT_EQ(heads.head_dim(), 33);
  EXPECT_EQ(heads.value_dim(), 65);
  EXPECT_EQ(heads.group(), 3);
  EXPECT_EQ(heads.kv_head_of(11), 3);
  EXPECT_EQ(Heads<>(12, 4, 33).value_dim(), 33);
  static_assert(!Heads<>::is_static);
}

TEST(Heads, MixedOnesCheckWhatTheTypeSays) {
  const Heads<Dynamic, 8, 128> heads(64, 8, 128);
  EXPECT_EQ(heads.group(), 8);
  EXPECT_EQ(error_of([] { Heads<Dynamic, 8, 128>(64, 4, 128); }),
            "num_kv_heads is 4 here but 8 in the type");
  EXPECT_EQ(error_of([] { Heads<32, 8, 128>(16, 8, 128); }),
            "num_heads is 16 here but 32 in the type");
  EXPECT_EQ(error_of([] { Heads<32, 8, 128>(32, 8, 64); }),
            "head_dim is 64 here but 128 in the type");
  EXPECT_EQ(error_of([] { Heads<32, 8, Dynamic, 96>(32, 8, 64, 64); }),
            "value_dim is 64 here but 96 in the type");
  EXPECT_EQ((Heads<32, 8, Dynamic, 96>(32, 8, 64).value_dim()), 96);
}

TEST(Heads, WrongNumbersThrowWithBoth) {
  EXPECT_EQ(error_of([] { Heads<>(32, 6, 128); }), "num_kv_heads 6 does not divide num_heads 32");
  EXPECT_EQ(error_of([] { Heads<>(4, 8, 128); }), "num_kv_heads 8 does not divide num_heads 4");
  EXPECT_EQ(error_of([] { Heads<>(0, 1, 8); }), "num_heads must be positive, is 0");
  EXPECT_EQ(error_of([] { Heads<>(2, -1, 8); }), "num_kv_heads must be positive, is -1");
  EXPECT_EQ(error_of([] { Heads<>(2, 1, 0); }), "head_dim must be positive, is 0");
  EXPECT_EQ(error_of([] { Heads<>(2, 1, 8, -8); }), "value_dim must be positive, is -8");
}

TEST(Heads, AliasesDifferInTheirKvHeadsAlone) {
  static_assert(std::same_as<Mha<32, 128>, Heads<32, 32, 128>> && Mha<32, 128>().group() == 1);
  static_assert(std::same_as<Gqa<32, 8, 128>, Heads<32, 8, 128>>);
  static_assert(std::same_as<Mqa<32, 128>, Heads<32, 1, 128>> && Mqa<32, 128>().group() == 32);
  static_assert(std::same_as<Mha<4, 8, 16>, Heads<4, 4, 8, 16>>);
  SUCCEED();
}

}  // namespace
}  // namespace gqa::test
