// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "failing_new.hpp"

#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

long so_far = 0;
long fail_at = -1;

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (so_far++ == fail_at) throw std::bad_alloc();
  const std::size_t whole = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, whole == 0 ? alignment : whole);
  if (!memory) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace gqa::test {

void fail_allocation(long number) { fail_at = number < 0 ? -1 : so_far + number; }
long allocations() { return so_far; }

}  // namespace gqa::test
