// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// detail::Vector: a std::vector for scratch. The functions of std::vector<float> are one symbol for
// all translation units of a program, whatever -march each is compiled for; these carry the tag of
// the instruction set (core/config.hpp). Not for members of data types, which are the same for all.
#pragma once

#include <memory>
#include <vector>

#include "gqa/core/config.hpp"

namespace gqa::detail {
inline namespace GQA_ISA {

template <typename T>
struct Allocator : std::allocator<T> {
  Allocator() = default;
  template <typename U>
  Allocator(const Allocator<U>&) noexcept {}  // NOLINT(google-explicit-constructor)
};

template <typename T>
using Vector = std::vector<T, Allocator<T>>;

}  // namespace GQA_ISA
}  // namespace gqa::detail
