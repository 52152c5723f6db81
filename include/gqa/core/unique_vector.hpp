// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// UniqueVector: the arrays of caches, which are moved and never copied by accident.
#pragma once

#include <utility>
#include <vector>

#include "gqa/core/config.hpp"

namespace gqa {

/// A std::vector that can't be copied. What it was moved from is empty, and moving it to itself
/// changes nothing: a std::vector that is assigned to promises neither.
template <typename T>
class UniqueVector : public std::vector<T> {
 public:
  using std::vector<T>::vector;
  GQA_TAG UniqueVector() = default;
  GQA_TAG UniqueVector(UniqueVector&&) noexcept = default;
  GQA_TAG UniqueVector& operator=(UniqueVector&& other) noexcept {
    UniqueVector taken(std::move(other));
    this->swap(taken);
    return *this;
  }
  GQA_TAG ~UniqueVector() = default;
};

}  // namespace gqa
