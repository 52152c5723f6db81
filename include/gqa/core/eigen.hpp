// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Eigen: dense matrices, and tensors from wherever this version of Eigen keeps them. GCC 12 warns
// of uninitialised registers in its own AVX-512 header, which is included from here and which
// Eigen's products inline, so those two warnings are off for Eigen's and the compiler's headers.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <Eigen/Core>

#if __has_include(<unsupported/Eigen/CXX11/Tensor>)
#include <unsupported/Eigen/CXX11/Tensor>
#else
#include <unsupported/Eigen/Tensor>
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include "gqa/core/scalar16.hpp"
#include "gqa/core/view.hpp"

// What other headers know of Eigen without including it.
static_assert(sizeof(Eigen::bfloat16) == sizeof(gqa::detail::Bfloat16) &&
              sizeof(Eigen::half) == sizeof(gqa::detail::Half));
static_assert(int(Eigen::RowMajor) == gqa::detail::row_major &&
              int(Eigen::DirectAccessBit) == gqa::detail::direct_access_bit);
