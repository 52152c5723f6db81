// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "precompiled.hpp"

namespace gqa {
inline namespace GQA_ISA {
GQA_TILES(template);
}
}  // namespace gqa
