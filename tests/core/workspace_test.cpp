// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "gqa/core/workspace.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>

namespace gqa::test {
namespace {

bool is_aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % alignment == 0; }

TEST(AlignedBuffer, IsAlignedAtAnySize) {
  for (const std::size_t bytes : {1ul, 63ul, 64ul, 1000ul, 4ul << 20, (4ul << 20) + 1, 9ul << 20}) {
    const AlignedBuffer buffer(bytes);
    EXPECT_TRUE(is_aligned(buffer.data()));
    EXPECT_EQ(buffer.bytes(), bytes);
    std::memset(buffer.data(), 1, bytes);
  }
  EXPECT_EQ(AlignedBuffer(0).data(), nullptr);
}

TEST(AlignedBuffer, MovesItsMemory) {
  AlignedBuffer a(100), b(9 << 20);  // freed as they were made, whichever size they had
  std::byte* const memory = b.data();
  a = std::move(b);
  EXPECT_EQ(a.data(), memory);
  EXPECT_EQ(a.bytes(), std::size_t{9} << 20);
  const AlignedBuffer c(std::move(a));
  EXPECT_EQ(c.data(), memory);
  EXPECT_EQ(a.data(), nullptr);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(a.bytes(), 0u);
}

TEST(AlignedBuffer, TooLargeThrows) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer ends the program where new would throw";
#endif
  EXPECT_THROW(AlignedBuffer(std::size_t{1} << 60), std::bad_alloc);
}

TEST(Workspace, GrowsAndStaysWhereItIs) {
  Workspace workspace;
  EXPECT_EQ(workspace.bytes(), 0u);
  std::byte* const first = workspace.reserve(1000);
  EXPECT_TRUE(is_aligned(first));
  EXPECT_EQ(workspace.reserve(10), first);
  EXPECT_EQ(workspace.reserve(1000), first);
  EXPECT_EQ(workspace.bytes(), 1000u);
  std::memset(workspace.reserve(5000), 1, 5000);
  EXPECT_EQ(workspace.bytes(), 5000u);
  EXPECT_EQ(Workspace(300).bytes(), 300u);
  // A little more each time, as a decode step needs: few allocations.
  int moves = 0;
  const std::byte* at = workspace.reserve(5000);
  for (std::size_t bytes = 5000; bytes < 500'000; bytes += 100) {
    if (workspace.reserve(bytes) != at) ++moves;
    at = workspace.reserve(bytes);
  }
  EXPECT_LE(moves, 12);
}

TEST(Workspace, StaysAsItWasWhenThereIsNoMemory) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer ends the program where new would throw";
#endif
  Workspace workspace(100);
  std::byte* const before = workspace.reserve(0);
  EXPECT_THROW(workspace.reserve(std::size_t{1} << 60), std::bad_alloc);
  EXPECT_EQ(workspace.bytes(), 100u);
  EXPECT_EQ(workspace.reserve(100), before);
}

TEST(Workspace, NestsAnotherOne) {
  Workspace workspace(100);
  Workspace& nested = workspace.nested();
  EXPECT_EQ(&workspace.nested(), &nested);
  std::byte* const outer = workspace.reserve(100);
  EXPECT_NE(nested.reserve(100), outer);
  EXPECT_EQ(workspace.reserve(100), outer);
  workspace.set_working_set(77);
  EXPECT_EQ(workspace.nested().working_set(), 77u);
}

TEST(Carver, CountsAndCarvesAlike) {
  const auto carve = [](Carver& carver) {
    // Braces: in this order.
    return std::tuple{carver.take<char>(3), carver.take<double>(9), carver.take<float>(0),
                      carver.take<float>(16)};
  };
  Carver counter;
  EXPECT_EQ(std::get<0>(carve(counter)), nullptr);
  EXPECT_EQ(counter.bytes(), 64u + 128u + 0u + 64u);
  const AlignedBuffer buffer(counter.bytes());
  Carver carver(buffer.data());
  const auto [a, b, c, d] = carve(carver);
  EXPECT_EQ(carver.bytes(), counter.bytes());
  EXPECT_TRUE(is_aligned(a) && is_aligned(b) && is_aligned(c) && is_aligned(d));
  EXPECT_EQ(static_cast<void*>(a), buffer.data());
  EXPECT_EQ(static_cast<void*>(b), buffer.data() + 64);
  EXPECT_EQ(static_cast<void*>(d), buffer.data() + 192);
}

}  // namespace
}  // namespace gqa::test
