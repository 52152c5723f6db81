// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Counts what a program allocates: through operator new, and through malloc and its kin where the
// linker's --wrap leads their calls to count_allocations.cpp (kernel/CMakeLists.txt shows how).
#pragma once

namespace gqa::test {

/// Allocations of the whole program so far.
long allocations();

/// Allocations made by a call.
long allocations_of(auto call) {
  const long before = allocations();
  call();
  return allocations() - before;
}

/// Compilers leave out allocations that nobody sees: this shows them a pointer.
void see(const void* pointer);

}  // namespace gqa::test
