// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
#pragma once

#include <limits>

namespace gqa::test {

template <typename T>
constexpr T nan = std::numeric_limits<T>::quiet_NaN();
template <typename T>
constexpr T infinity = std::numeric_limits<T>::infinity();

}  // namespace gqa::test
