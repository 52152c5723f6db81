// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// AnyRows: a TensorView whose element type is known at run time. Queries become what the kernels
// multiply, and their sums become outputs, a row at a time, by the two functions below: kernels are
// compiled for the storage of keys and values alone.
#pragma once

#include "gqa/core/dtype.hpp"
#include "gqa/core/view.hpp"

namespace gqa::detail {

/// [batch, tokens, heads, dim] of elements of a Dtype; Byte is std::byte, const or not.
template <typename Byte>
struct AnyRows {
  template <typename T>
  static constexpr Index bytes = Index{sizeof(Native<T>)};

  Byte* data = nullptr;
  TensorShape shape = {};
  TensorStrides strides = {};  ///< in bytes
  Dtype dtype = Dtype::f32;

  GQA_TAG AnyRows() = default;
  template <typename T>
  GQA_TAG explicit AnyRows(const TensorView<T>& view)
      : data(reinterpret_cast<Byte*>(view.data())),
        shape(view.shape()),
        strides{.batch = view.strides().batch * bytes<T>,
                .token = view.strides().token * bytes<T>,
                .head = view.strides().head * bytes<T>},
        dtype(dtype_of<std::remove_const_t<T>>) {}

  GQA_TAG Byte* row(Index batch, Index token, Index head) const {
    GQA_ASSERT(batch >= 0 && batch < shape.batch && token >= 0 && token < shape.tokens &&
               head >= 0 && head < shape.heads);
    return data + batch * strides.batch + token * strides.token + head * strides.head;
  }
};

inline namespace GQA_ISA {

/// Calls f(T{}) with the type of rows, which no quantised storage is.
template <typename F>
void with_scalar(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::f64:
      return f(double{});
    case Dtype::f32:
      return f(float{});
    case Dtype::f16:
      return f(Half{});
    default:
      return f(Bfloat16{});
  }
}

/// Bytes of an element.
inline Index element_bytes(Dtype dtype) {
  return dtype == Dtype::f64 ? 8 : dtype == Dtype::f32 ? 4 : 2;
}

/// Copies n numbers of a row.
template <typename T>
void copy_row(const std::byte* row, Dtype dtype, Index n, T* to) {
  with_scalar(dtype, [&]<typename From>(From) {
    const From* from = reinterpret_cast<const From*>(row);
    for (Index i = 0; i < n; ++i) to[i] = convert<T>(from[i]);
  });
}
/// The n numbers of a row as T, where they lie or else in `room`.
template <typename T>
const T* read_row(const std::byte* row, Dtype dtype, Index n, T* room) {
  if (dtype == dtype_of<T>) return reinterpret_cast<const T*>(row);
  copy_row(row, dtype, n, room);
  return room;
}

/// Writes n numbers, times a factor, into a row.
template <typename T>
void write_row(const T* numbers, T factor, Index n, std::byte* row, Dtype dtype) {
  if (dtype == dtype_of<T>) {
    T* GQA_RESTRICT to = reinterpret_cast<T*>(row);
    const T* GQA_RESTRICT from = numbers;
    for (Index i = 0; i < n; ++i) to[i] = from[i] * factor;
    return;
  }
  with_scalar(dtype, [&]<typename To>(To) {
    To* to = reinterpret_cast<To*>(row);
    for (Index i = 0; i < n; ++i) to[i] = convert<To>(numbers[i] * factor);
  });
}

/// Are n numbers of a row all zero?
template <typename T>
bool is_zero_row(Index n, const std::byte* row, Dtype dtype) {
  for (Index i = 0; i < n; ++i) {
    T x;
    copy_row(row + i * element_bytes(dtype), dtype, 1, &x);
    if (x != 0) return false;
  }
  return true;
}

/// Writes n zeros.
inline void zero_row(Index n, std::byte* row, Dtype dtype) {
  std::fill_n(row, n * element_bytes(dtype), std::byte{0});
}

}  // namespace GQA_ISA
}  // namespace gqa::detail
