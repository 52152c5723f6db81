// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What main.cpp, which is compiled for any processor and knows nothing of gqa, has in common with
// the cases, which are compiled for a level.
#pragma once

#include <cstdint>
#include <string>

namespace gqa::bits {

/// The level that the cases are compiled for: a column of digests.txt.
extern const char* const level;
/// Does this processor have it?
bool processor_has_level();

/// A case's name, unique, without spaces, and the digest of its results.
void report(const std::string& name, std::uint64_t digest);

// The cases; null where their source isn't part of the program.
[[gnu::weak]] void attend_over_float_caches();
[[gnu::weak]] void attend_over_narrow_caches();
[[gnu::weak]] void attend_over_other_sources();
[[gnu::weak]] void attend_with_own_parts();
[[gnu::weak]] void gradients();
[[gnu::weak]] void layers();

}  // namespace gqa::bits
