// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// An operator new that fails when told to. In a unit of its own, so that compilers don't inline
// half of a pair.
#pragma once

namespace gqa::test {

/// The allocation that has this many others before it, counted from now, throws std::bad_alloc; -1:
/// none does.
void fail_allocation(long number);
/// Allocations of the whole program so far.
long allocations();

}  // namespace gqa::test
