// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// UniqueVector: the arrays of caches, which are moved and never copied by accident. It is no
// std::vector, since the functions of std::vector<PageList> would be one symbol for all translation
// units of a program, whatever instruction set each is compiled for (core/config.hpp); those of a
// class of ours carry its tag.
#pragma once

#include <cstddef>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "gqa/core/config.hpp"

namespace gqa {

/// What caches need of a std::vector, under the same names; it can't be copied. What it was moved
/// from is empty, and moving it to itself changes nothing: a std::vector that is assigned to
/// promises neither.
template <typename T>
class UniqueVector {
  static_assert(std::is_nothrow_move_constructible_v<T> && alignof(T) <= alignof(std::max_align_t));

 public:
  using value_type = T;

  GQA_TAG UniqueVector() = default;
  GQA_TAG UniqueVector(UniqueVector&& other) noexcept { swap(other); }
  GQA_TAG UniqueVector& operator=(UniqueVector&& other) noexcept {
    UniqueVector taken(std::move(other));
    swap(taken);
    return *this;
  }
  GQA_TAG ~UniqueVector() {
    while (!empty()) pop_back();
    ::operator delete(data_);
  }
  GQA_TAG void swap(UniqueVector& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

  GQA_TAG std::size_t size() const { return size_; }
  GQA_TAG std::size_t capacity() const { return capacity_; }
  GQA_TAG bool empty() const { return size_ == 0; }

  GQA_TAG T* begin() { return data_; }
  GQA_TAG T* end() { return data_ + size_; }
  GQA_TAG const T* begin() const { return data_; }
  GQA_TAG const T* end() const { return data_ + size_; }
  GQA_TAG T& operator[](std::size_t i) { return data_[i]; }
  GQA_TAG const T& operator[](std::size_t i) const { return data_[i]; }
  GQA_TAG T& front() { return *data_; }
  GQA_TAG const T& front() const { return *data_; }
  GQA_TAG T& back() { return data_[size_ - 1]; }
  GQA_TAG const T& back() const { return data_[size_ - 1]; }

  /// Room for `capacity` elements in all. Throws std::bad_alloc, and then nothing has changed.
  GQA_TAG void reserve(std::size_t capacity) {
    if (capacity <= capacity_) return;
    if (capacity > (std::numeric_limits<std::ptrdiff_t>::max)() / sizeof(T)) throw std::bad_alloc();
    UniqueVector larger;
    larger.data_ = static_cast<T*>(::operator new(capacity * sizeof(T)));
    larger.capacity_ = capacity;
    for (T& element : *this) larger.emplace_back(std::move(element));
    swap(larger);
  }
  /// New elements are T{}.
  GQA_TAG void resize(std::size_t size) {
    reserve(size);
    while (size_ > size) pop_back();
    while (size_ < size) emplace_back();
  }
  template <typename... Args>
  GQA_TAG T& emplace_back(Args&&... args) {
    if (size_ == capacity_) reserve(capacity_ == 0 ? 4 : 2 * capacity_);
    T* const place = ::new (static_cast<void*>(data_ + size_)) T(std::forward<Args>(args)...);
    ++size_;
    return *place;
  }
  GQA_TAG void push_back(T element) { emplace_back(std::move(element)); }
  GQA_TAG void pop_back() { data_[--size_].~T(); }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace gqa
