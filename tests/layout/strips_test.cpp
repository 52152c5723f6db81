// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Where StripLayout puts what, against the picture in layout/strips.hpp.
#include "gqa/layout/strips.hpp"

#include <gtest/gtest.h>

#include <set>

#include "gqa/core/eigen.hpp"

namespace gqa::test {
namespace {

template <typename Storage>
class Strips : public testing::Test {};
using Storages = testing::Types<float, double, bfloat16, half>;
TYPED_TEST_SUITE(Strips, Storages);

constexpr std::array<Index, 12> dims{1, 2, 15, 16, 17, 31, 32, 33, 48, 64, 100, 128};

TYPED_TEST(Strips, PutEveryElementInAPlaceOfItsOwn) {
  for (const Index head_dim : dims) {
    for (const Index value_dim : dims) {
      const StripLayout<TypeParam> layout(head_dim, value_dim);
      std::set<Index> places;
      for (Index t = 0; t < block_keys; ++t) {
        for (Index c = 0; c < layout.padded_head_dim(); ++c) places.insert(layout.key_offset(t, c));
        EXPECT_LT(*places.rbegin(), layout.value_begin());
      }
      EXPECT_EQ(std::ssize(places), layout.value_begin());  // no element twice, none left out
      for (Index t = 0; t < block_keys; ++t) {
        for (Index c = 0; c < layout.padded_value_dim(); ++c)
          places.insert(layout.value_offset(t, c));
      }
      EXPECT_EQ(std::ssize(places), layout.block_elements());
      EXPECT_EQ(*places.begin(), 0);
      EXPECT_EQ(*places.rbegin(), layout.block_elements() - 1);
    }
  }
}

TYPED_TEST(Strips, HaveKeysAsLanes) {
  // K: [2 strips][ceil(head_dim / p)][32 keys][p]
  constexpr Index p = packing<TypeParam>;
  const Index head_dim = 7;
  const StripLayout<TypeParam> layout(head_dim, 5);
  Index place = 0;
  for (Index strip = 0; strip < 2; ++strip) {
    for (Index step = 0; step < (head_dim + p - 1) / p; ++step) {
      for (Index key = 0; key < 32; ++key) {
        for (Index i = 0; i < p; ++i) {
          EXPECT_EQ(layout.key_offset(strip * 32 + key, step * p + i), place++);
        }
      }
    }
  }
  EXPECT_EQ(place, layout.value_begin());
}

TYPED_TEST(Strips, HaveValueChannelsAsLanes) {
  // V: [strips of 32 channels, the last one 16 or 32 wide][64 / p][width][p]
  constexpr Index p = packing<TypeParam>;
  for (const auto& [value_dim, widths] :
       std::vector<std::pair<Index, std::vector<Index>>>{{5, {16}},
                                                         {16, {16}},
                                                         {17, {32}},
                                                         {32, {32}},
                                                         {33, {32, 16}},
                                                         {80, {32, 32, 16}},
                                                         {90, {32, 32, 32}}}) {
    const StripLayout<TypeParam> layout(9, value_dim);
    Index place = layout.value_begin();
    for (std::size_t s = 0; s < widths.size(); ++s) {
      EXPECT_EQ(layout.value_strip_width(static_cast<Index>(s)), widths[s]);
      for (Index step = 0; step < 64 / p; ++step) {
        for (Index channel = 0; channel < widths[s]; ++channel) {
          for (Index i = 0; i < p; ++i) {
            EXPECT_EQ(layout.value_offset(step * p + i, static_cast<Index>(s) * 32 + channel),
                      place++);
          }
        }
      }
    }
    EXPECT_EQ(place, layout.block_elements());
  }
}

TYPED_TEST(Strips, AreAsLargeAsStated) {
  const StripLayout<TypeParam> layout(33, 33);
  EXPECT_EQ(layout.padded_head_dim(), packing<TypeParam> == 2 ? 34 : 33);
  EXPECT_EQ(layout.padded_value_dim(), 48);
  EXPECT_EQ(layout.block_elements(), 64 * (layout.padded_head_dim() + 48));
  EXPECT_EQ(layout.block_bytes(), layout.block_elements() * Index{sizeof(TypeParam)});
  EXPECT_EQ(layout.block_bytes() % Index{alignment}, 0);
}

}  // namespace
}  // namespace gqa::test
