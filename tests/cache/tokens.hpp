// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Tokens that are one number each, for tests about which token is where.
#pragma once

#include <vector>

#include "support/random.hpp"

namespace gqa::test {

/// Appends one token per number: its keys' elements are the number, its values' the negative of it.
template <typename Cache>
void append_numbers(Cache& cache, Index sequence, const std::vector<float>& numbers) {
  const Index count = std::ssize(numbers);
  TestTensor<float> k({1, count, cache.num_kv_heads(), cache.head_dim()});
  TestTensor<float> v({1, count, cache.num_kv_heads(), cache.value_dim()});
  for (Index t = 0; t < count; ++t) {
    for (Index h = 0; h < cache.num_kv_heads(); ++h) {
      const float number = numbers[static_cast<std::size_t>(t)];
      k.fill_row(0, t, h, number);
      v.fill_row(0, t, h, -number);
    }
  }
  cache.append(sequence, k.view(), v.view());
}

/// The numbers of tokens [first, first + count); -1000 for a token whose elements differ.
template <typename Cache>
std::vector<float> read_numbers(const Cache& cache, Index sequence, Index first, Index count) {
  TestTensor<float> k({1, count, cache.num_kv_heads(), cache.head_dim()});
  TestTensor<float> v({1, count, cache.num_kv_heads(), cache.value_dim()});
  cache.read(sequence, first, k.view(), v.view());
  std::vector<float> result;
  for (Index t = 0; t < count; ++t) {
    const float number = k.row(0, t, 0)[0];
    bool same = true;
    for (Index h = 0; h < cache.num_kv_heads(); ++h) {
      for (Index c = 0; c < cache.head_dim(); ++c) same &= k.row(0, t, h)[c] == number;
      for (Index c = 0; c < cache.value_dim(); ++c) same &= v.row(0, t, h)[c] == -number;
    }
    result.push_back(same ? number : -1000.0f);
  }
  return result;
}
/// Of all tokens.
template <typename Cache>
std::vector<float> read_numbers(const Cache& cache, Index sequence) {
  return read_numbers(cache, sequence, 0, cache.length(sequence));
}

/// first, first + 1, …
inline std::vector<float> counting(Index first, Index count) {
  std::vector<float> numbers;
  for (Index i = 0; i < count; ++i) numbers.push_back(static_cast<float>(first + i));
  return numbers;
}

}  // namespace gqa::test
