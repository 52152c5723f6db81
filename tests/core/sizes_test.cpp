// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Sizes near the end of what an Index counts, wherever core/ multiplies or adds them.
#include "gqa/core/sizes.hpp"

#include <gtest/gtest.h>

#include <cstdint>

#include "gqa/core/view.hpp"
#include "gqa/core/workspace.hpp"
#include "gqa/layout/strips.hpp"
#include "support/errors.hpp"

namespace gqa::test {
namespace {

constexpr Index most = std::numeric_limits<Index>::max();
constexpr Index half_of_bits = Index{1} << 32;

TEST(MemoryBytes, IsTheProductOrThrows) {
  EXPECT_EQ(memory_bytes("x", {}), 1);
  EXPECT_EQ(memory_bytes("x", {3, 5, 7}), 105);
  EXPECT_EQ(memory_bytes("x", {most}), most);
  EXPECT_EQ(memory_bytes("x", {most, 1, 1}), most);
  EXPECT_EQ(memory_bytes("x", {half_of_bits, half_of_bits / 4}), Index{1} << 62);
  EXPECT_EQ(memory_bytes("x", {half_of_bits - 1, half_of_bits / 2}),
            (half_of_bits - 1) * (half_of_bits / 2));
  EXPECT_EQ(error_of<std::length_error>([] {
              memory_bytes("x", {half_of_bits, half_of_bits / 2});
            }),
            "x: 4294967296 x 2147483648 bytes are more than 63 bits count");
  EXPECT_EQ(error_of<std::length_error>([] {
              memory_bytes("x", {2, most, 3});
            }),
            "x: 2 x 9223372036854775807 x 3 bytes are more than 63 bits count");
}

TEST(MemoryBytes, OfNothingIsZeroWhateverTheOtherSizes) {
  EXPECT_EQ(memory_bytes("x", {0}), 0);
  EXPECT_EQ(memory_bytes("x", {0, most, most}), 0);
  EXPECT_EQ(memory_bytes("x", {most, most, 0}), 0);
}

TEST(SaturatedSum, StopsAtTheEnds) {
  constexpr Index least = std::numeric_limits<Index>::min();
  EXPECT_EQ(detail::saturated_sum(3, -5), -2);
  EXPECT_EQ(detail::saturated_sum(most, -1), most - 1);
  EXPECT_EQ(detail::saturated_sum(most - 1, 1), most);
  EXPECT_EQ(detail::saturated_sum(most, 1), most);
  EXPECT_EQ(detail::saturated_sum(1, most), most);
  EXPECT_EQ(detail::saturated_sum(least + 1, -1), least);
  EXPECT_EQ(detail::saturated_sum(least, -1), least);
  EXPECT_EQ(detail::saturated_sum(-1, least), least);
}

/// operator new rounds sizes up to the alignment, and the largest ones to 0.
TEST(Memory, OfMoreBytesThanAnIndexCountsIsRefused) {
  EXPECT_EQ(error_of<std::length_error>([] { AlignedBuffer buffer(SIZE_MAX); }),
            "AlignedBuffer: 18446744073709551615 bytes are more than 63 bits count");
  for (const std::size_t bytes : {std::size_t{SIZE_MAX} - 100, std::size_t{1} << 63}) {
    EXPECT_NE(error_of<std::length_error>([&] { AlignedBuffer buffer(bytes); }), "no exception");
    EXPECT_NE(error_of<std::length_error>([&] { Workspace workspace(bytes); }), "no exception");
    Workspace workspace(100);
    EXPECT_NE(error_of<std::length_error>([&] { workspace.reserve(bytes); }), "no exception");
    EXPECT_EQ(workspace.bytes(), 100u);
  }
}

TEST(Carver, RefusesMoreThanAnIndexCounts) {
  for (const Index count : {Index{1} << 61, Index{1} << 60, most, Index{-1}}) {
    Carver carver;
    carver.take<float>(1);
    carver.take<double>(count);
    carver.take<double>(1);  // whatever comes after
    EXPECT_EQ(error_of<std::length_error>([&] { (void)carver.bytes(); }),
              "Carver: the arrays take more bytes than 63 bits count");
  }
  Carver carver;
  carver.take<float>(1);
  carver.take<char>(most - 300);
  carver.take<char>(64);
  EXPECT_GT(carver.bytes(), static_cast<std::size_t>(most - 300));
  carver.take<char>(128);
  EXPECT_NE(error_of<std::length_error>([&] { (void)carver.bytes(); }), "no exception");
}

TEST(Sizes, SaturatedSumsStayWithinIndex) {
  using detail::saturated_difference, detail::saturated_sum;
  constexpr Index least = std::numeric_limits<Index>::min();
  static_assert(saturated_sum(3, -5) == -2 && saturated_difference(3, -5) == 8);
  static_assert(saturated_sum(most, 1) == most && saturated_sum(most, most) == most);
  static_assert(saturated_sum(least, -1) == least && saturated_sum(least, least) == least);
  static_assert(saturated_sum(most, least) == -1 && saturated_sum(least, most) == -1);
  static_assert(saturated_difference(least, 1) == least && saturated_difference(0, least) == most);
  static_assert(saturated_difference(most, -1) == most && saturated_difference(-1, most) == least);
  static_assert(saturated_difference(-1, least) == most &&
                saturated_difference(least, least) == 0 && saturated_difference(most, most) == 0);
  SUCCEED();
}

TEST(Sizes, ProductsAreComparedWithoutBeingFormed) {
  using detail::is_product;
  static_assert(is_product(12, 3, 4) && !is_product(12, 5, 2) && !is_product(13, 3, 4));
  static_assert(is_product(0, 0, most) && is_product(0, 7, 0) && !is_product(1, 0, most));
  static_assert(!is_product(0, 4, Index{1} << 62));  // 2^64 would be 0
  static_assert(!is_product(most, 2, most) && !is_product(-2, 2, most) &&
                is_product(most, 1, most));
  SUCCEED();
}

TEST(View, SlicesThatEndBeyondAnIndexThrow) {
  float data[16] = {};
  const TensorView<float> x(data, {1, 4, 2, 2});
  EXPECT_EQ(error_of([&] { x.tokens_slice(1, most); }),
            "tokens [1, 9223372036854775807) are outside of [1, 4, 2, 2]");
  EXPECT_EQ(error_of([&] { x.tokens_slice(most, most); }),
            "tokens [9223372036854775807, 9223372036854775807) are outside of [1, 4, 2, 2]");
  EXPECT_EQ(error_of([&] { x.heads_slice(2, most); }),
            "heads [2, 9223372036854775807) are outside of [1, 4, 2, 2]");
  EXPECT_EQ(error_of([&] { x.heads_slice(-1, std::numeric_limits<Index>::min()); }),
            "heads [-1, -9223372036854775808) are outside of [1, 4, 2, 2]");
}

TEST(View, OfMoreBytesThanAnIndexCountsThrows) {
  float data[1] = {};
  const char* const error =
      "TensorView: 1 x 1099511627776 x 1099511627776 x 1 x 4 bytes are more than 63 bits count";
  const TensorShape shape{1, Index{1} << 40, Index{1} << 40, 1};
  EXPECT_EQ(error_of<std::length_error>([&] { TensorView<float>(data, shape); }), error);
  EXPECT_EQ(error_of<std::length_error>([&] { heads_first(data, shape); }), error);
  // The number of elements is 0 in 64 bits.
  const TensorShape wrapped{1, half_of_bits, half_of_bits, 1};
  EXPECT_EQ(error_of([&] { TensorView<float>(nullptr, wrapped, {}); }),
            "a TensorView of shape [1, 4294967296, 4294967296, 1] needs data, got a null pointer");
  // Elements that an Index counts, bytes that it doesn't.
  EXPECT_NE(error_of<std::length_error>([&] {
              TensorView<float>(data, {1, half_of_bits, half_of_bits / 8, 1});
            }),
            "no exception");
  EXPECT_EQ(error_of([&] {
              TensorView<float>(data, {-1, most, most, most});
            }),
            "a TensorView has no negative size: [-1, 9223372036854775807, 9223372036854775807, "
            "9223372036854775807]");
}

TEST(StripLayout, OfRowsWiderThanMemoryIsRefused) {
  EXPECT_EQ(error_of<std::length_error>([] { StripLayout<float>(most, 16); }),
            "a block of 64 keys and values with head_dim 9223372036854775807 and value_dim 16 "
            "takes more bytes than 63 bits count");
  EXPECT_NE(error_of<std::length_error>([] { StripLayout<Int4>(16, Index{1} << 53); }),
            "no exception");
  const Index widest = Index{1} << 51;
  const StripLayout<double> layout(widest, widest);
  EXPECT_EQ(layout.block_bytes(), 64 * 2 * widest * 8);
  EXPECT_EQ(layout.token_bytes(), 2 * widest * 8);
}

}  // namespace
}  // namespace gqa::test
