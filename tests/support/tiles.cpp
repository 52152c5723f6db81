// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "support/precompiled.hpp"

namespace gqa {
inline namespace GQA_ISA {
GQA_TEST_TILES(template);
}
}  // namespace gqa
