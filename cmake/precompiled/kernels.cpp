// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#include "precompiled.hpp"

namespace gqa::detail {
inline namespace GQA_ISA {
GQA_KERNELS(template);
}
}  // namespace gqa::detail
