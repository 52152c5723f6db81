// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A warm pass with a workspace allocates nothing, Eigen's products included. What is counted: every
// operator new, and with glibc, unless a sanitizer stands in for it, every malloc and aligned_alloc
// (Eigen calls those).
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "layer.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GQA_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define GQA_TEST_SANITIZED 1
#endif
#endif

namespace {
std::atomic<long> allocations{0};
}

#if defined(__GLIBC__) && !defined(GQA_TEST_SANITIZED)
extern "C" {
void* __libc_malloc(std::size_t bytes);                           // NOLINT
void* __libc_memalign(std::size_t alignment, std::size_t bytes);  // NOLINT
void* malloc(std::size_t bytes) noexcept {
  ++allocations;
  return __libc_malloc(bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  ++allocations;
  return __libc_memalign(alignment, bytes);
}
}
#else
#define GQA_TEST_COUNTS_NEW_ONLY 1
void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* p = std::malloc(bytes > 0 ? bytes : 1)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  ++allocations;
  const auto align = static_cast<std::size_t>(alignment);
  if (void* p = std::aligned_alloc(align, (bytes + align) / align * align)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
#endif

namespace gqa::test {
namespace {

/// The number of allocations of fn().
template <typename F>
long counted(F&& fn) {
  const long before = allocations;
  fn();
  return allocations - before;
}

/// Wide enough that Eigen would allocate to pack the whole of a weight (512 x 512 floats: 1 MiB).
MultiHeadAttention<float> wide_layer(bool rope) {
  return random_layer<float>({.hidden_size = 512,
                              .num_heads = 8,
                              .num_kv_heads = 2,
                              .qkv_bias = true,
                              .rope = rope ? std::optional(RopeConfig{}) : std::nullopt,
                              .qk_norm = QkNorm{}});
}

std::vector<float> kept;  // global, so that no compiler spares the allocation
Eigen::VectorXf kept_by_eigen;

TEST(Allocation, IsCounted) {
  EXPECT_EQ(counted([] { AlignedBuffer buffer(1000); }), 1);
  EXPECT_EQ(counted([] { kept = std::vector<float>(1000); }), 1);
#if !defined(GQA_TEST_COUNTS_NEW_ONLY)
  EXPECT_EQ(counted([] { kept_by_eigen = Eigen::VectorXf::Ones(1000); }), 1);
#endif
}

TEST(Allocation, AWarmStepOfTheModuleDoesNone) {
  const auto layer = wide_layer(true);
  for (const Index batch : {1, 3, 20}) {
    for (const Index tokens : {1, 4}) {
      const auto x = random_hidden<float>(batch, tokens, 512);
      Hidden<float> y(batch, tokens, 512);
      KvCache<bfloat16> cache({.batch = batch, .capacity = 3 * tokens, .heads = layer.heads()});
      Workspace workspace;
      EXPECT_GT(counted([&] { layer.forward(x, y, &cache, &workspace); }), 0);
      for (int step = 0; step < 2; ++step) {
        EXPECT_EQ(counted([&] { layer.forward(x, y, &cache, &workspace); }), 0)
            << "batch " << batch << " tokens " << tokens;
      }
    }
  }
}

TEST(Allocation, AWarmPrefillDoesNoneEither) {
  const auto layer = wide_layer(true);
  const auto x = random_hidden<float>(1, 150, 512);
  Hidden<float> y(1, 150, 512);
  KvCache<float> cache({.capacity = 150, .heads = layer.heads()});
  Workspace workspace;
  layer.forward(x, y, &cache, &workspace);
  cache.clear();
  EXPECT_EQ(counted([&] { layer.forward(x, y, &cache, &workspace); }), 0);
  layer.forward(x, y, nullptr, &workspace);
  EXPECT_EQ(counted([&] { layer.forward(x, y, nullptr, &workspace); }), 0);
}

TEST(Allocation, WarmCrossAttentionDoesNone) {
  const auto layer = wide_layer(false);
  const auto x = random_hidden<float>(2, 1, 512), memory = random_hidden<float>(2, 40, 512);
  Hidden<float> y(2, 1, 512);
  KvCache<float> cache({.batch = 2, .capacity = 40, .heads = layer.heads()});
  Workspace workspace;
  layer.project_memory(memory, cache, &workspace);
  layer.cross(x, y, cache, &workspace);
  EXPECT_EQ(counted([&] { layer.cross(x, y, cache, &workspace); }), 0);
  cache.clear();
  EXPECT_EQ(counted([&] { layer.project_memory(memory, cache, &workspace); }), 0);
}

}  // namespace
}  // namespace gqa::test
