// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// All that caches do to the numbers in a block of strips, as tables of functions: one table for a
// storage type, and one for it and a type of rows. Caches reach them here alone, and keep no
// pointer to them, so that another table may be chosen at run time.
#pragma once

#include "gqa/layout/pack.hpp"
#include "gqa/layout/stored.hpp"

namespace gqa::detail {

/// The numbers of a key and of a value.
struct StripDims {
  Index head_dim = 0;
  Index value_dim = 0;
};

/// What can be done to a block of strips of a storage type.
struct StripFunctions {
  /// Zeroes tokens [begin, end).
  void (*zero)(StripDims dims, std::byte* block, Index begin, Index end);
  /// Writes token `t` to `to` as files hold it; reads it from there.
  void (*get_stored)(StripDims dims, const std::byte* block, Index t, std::byte* to);
  void (*put_stored)(StripDims dims, std::byte* block, Index t, const std::byte* from);
};

/// The same with rows of one type of numbers; strides are in bytes.
struct StripRowFunctions {
  /// Writes tokens [t, t + count) from rows.
  void (*put)(StripDims dims, std::byte* block, Index t, Index count, const std::byte* keys,
              Index key_stride, const std::byte* values, Index value_stride);
  /// Reads the key, or the value, of token `t` into a row.
  void (*get_key)(StripDims dims, const std::byte* block, Index t, std::byte* key);
  void (*get_value)(StripDims dims, const std::byte* block, Index t, std::byte* value);
};

inline namespace GQA_ISA {

/// Both of storage and rows of these types, which are Native.
template <typename Storage>
struct StripsOf {
  static StripLayout<Storage> layout(StripDims dims) { return {dims.head_dim, dims.value_dim}; }
  static Storage* of(std::byte* block) { return reinterpret_cast<Storage*>(block); }
  static const Storage* of(const std::byte* block) {
    return reinterpret_cast<const Storage*>(block);
  }

  static void zero(StripDims dims, std::byte* block, Index begin, Index end) {
    zero_tokens(layout(dims), of(block), begin, end);
  }
  static void get_stored(StripDims dims, const std::byte* block, Index t, std::byte* to) {
    get_stored_token(layout(dims), of(block), t, to);
  }
  static void put_stored(StripDims dims, std::byte* block, Index t, const std::byte* from) {
    put_stored_token(layout(dims), of(block), t, from);
  }
  static constexpr StripFunctions functions = {zero, get_stored, put_stored};

  template <typename T>
  struct Rows {
    static void put(StripDims dims, std::byte* block, Index t, Index count, const std::byte* keys,
                    Index key_stride, const std::byte* values, Index value_stride) {
      constexpr Index bytes = Index{sizeof(T)};
      put_tokens(layout(dims), of(block), t, count, reinterpret_cast<const T*>(keys),
                 key_stride / bytes, reinterpret_cast<const T*>(values), value_stride / bytes);
    }
    static void get_key(StripDims dims, const std::byte* block, Index t, std::byte* key) {
      get_token(layout(dims), of(block), t, reinterpret_cast<T*>(key), static_cast<T*>(nullptr));
    }
    static void get_value(StripDims dims, const std::byte* block, Index t, std::byte* value) {
      get_token(layout(dims), of(block), t, static_cast<T*>(nullptr), reinterpret_cast<T*>(value));
    }
    static constexpr StripRowFunctions functions = {put, get_key, get_value};
  };
};

/// The functions of a storage type, and of one and rows of T.
template <StorageType Storage>
const StripFunctions& strip_functions() {
  return StripsOf<Native<Storage>>::functions;
}
template <StorageType Storage, Scalar T>
const StripRowFunctions& strip_row_functions() {
  return StripsOf<Native<Storage>>::template Rows<Native<T>>::functions;
}

}  // namespace GQA_ISA
}  // namespace gqa::detail
