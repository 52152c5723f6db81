// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What a storage type has cost: keys and values as a cache holds them against those that were given
// to it. For choosing a type, or whether to rotate keys (ops/hadamard.hpp), on a model's own
// numbers.
#pragma once

#include <cmath>
#include <vector>

#include "gqa/cache/strip_cache.hpp"

namespace gqa {

/// Of some numbers: sqrt(sum of squared errors / sum of squares), and the largest error.
struct RoundingError {
  double relative_rms = 0;
  double largest = 0;
};
struct StorageError {
  RoundingError keys;
  RoundingError values;
};

namespace detail {

template <typename Given, typename Held>
GQA_TAG RoundingError rounding_error(const TensorView<Given>& given, const TensorView<Held>& held) {
  double square = 0, square_error = 0;
  RoundingError result;
  for (Index t = 0; t < given.tokens(); ++t) {
    for (Index h = 0; h < given.heads(); ++h) {
      for (Index c = 0; c < given.dim(); ++c) {
        const double x = convert<double>(given.row(0, t, h)[c]);
        const double error = (std::abs)(convert<double>(held.row(0, t, h)[c]) - x);
        square += x * x;
        square_error += error * error;
        // NaN comes and stays.
        if (error > result.largest || std::isnan(error)) result.largest = error;
      }
    }
  }
  result.relative_rms = square_error == 0 ? 0 : std::sqrt(square_error / square);
  return result;
}

}  // namespace detail

/// The error of tokens [first, first + n) of a sequence against k [1, n, num_kv_heads, head_dim]
/// and v [1, n, num_kv_heads, value_dim], which were appended. Throws what cache.read() does.
template <KvStore Cache, typename Key, typename Value>
GQA_TAG StorageError storage_error(const Cache& cache, Index sequence, Index first, const Key& k,
                                   const Value& v) {
  using T = AccumulatorOf<typename Cache::Storage>;
  const auto keys = view(k);
  const auto values = view(v);
  const auto held = [](const TensorShape& shape, detail::Vector<T>& memory) {
    const Index bytes = memory_bytes(
        "storage_error", {shape.batch, shape.tokens, shape.heads, shape.dim, Index{sizeof(T)}});
    memory.resize(static_cast<std::size_t>(bytes) / sizeof(T));
    return TensorView<T>(memory.data(), shape);
  };
  detail::Vector<T> key_memory, value_memory;
  const auto held_keys = held(keys.shape(), key_memory);
  const auto held_values = held(values.shape(), value_memory);
  cache.read(sequence, first, held_keys, held_values);
  return {.keys = detail::rounding_error(keys, held_keys),
          .values = detail::rounding_error(values, held_values)};
}

}  // namespace gqa
