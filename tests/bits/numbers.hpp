// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The numbers of the cases, made from integers alone by operations that are exact, and the digest
// of their results.
#pragma once

#include <bit>
#include <cstdint>
#include <gqa/gqa.hpp>
#include <vector>

namespace gqa::bits {

/// Number i of a sequence (the finaliser of SplitMix64).
inline std::uint64_t hash(std::uint64_t seed, std::uint64_t i) {
  std::uint64_t x = seed * 0xd1342543de82ef95u + (i + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// In [-2, 2), small ones more often, times 2^exponent.
template <typename T>
T number(std::uint64_t seed, std::uint64_t i, int exponent = 0) {
  const std::uint64_t bits = hash(seed, i);
  constexpr int digits = std::same_as<T, double> ? 50 : 22;
  using Real = AccumulatorOf<T>;
  const auto integer =
      static_cast<std::int64_t>(bits >> (63 - digits)) - (std::int64_t{1} << digits);
  Real x = static_cast<Real>(integer);  // in [-2^digits, 2^digits)
  int left = exponent + 1 - digits - static_cast<int>(bits & 3);
  for (; left < 0; ++left) x *= Real(0.5);
  for (; left > 0; --left) x *= Real(2);
  return convert<T>(x);
}

/// A dense tensor that owns its numbers.
template <typename T>
class Tensor {
 public:
  explicit Tensor(const TensorShape& shape, T x = T(0.0f))
      : shape_(shape),
        numbers_(static_cast<std::size_t>(shape.batch * shape.tokens * shape.heads * shape.dim),
                 x) {}
  Tensor(const TensorShape& shape, std::uint64_t seed, int exponent) : Tensor(shape) {
    for (std::size_t i = 0; i < numbers_.size(); ++i) numbers_[i] = number<T>(seed, i, exponent);
  }
  TensorView<T> view() { return {numbers_.data(), shape_}; }
  TensorView<const T> view() const { return {numbers_.data(), shape_}; }
  std::vector<T>& numbers() { return numbers_; }
  const std::vector<T>& numbers() const { return numbers_; }

 private:
  TensorShape shape_;
  std::vector<T> numbers_;
};

/// FNV-1a of numbers. What a NaN consists of may depend on the order of operands: one stands for
/// all.
class Digest {
 public:
  void byte(std::uint8_t x) { value_ = (value_ ^ x) * 0x100000001b3u; }
  template <typename T>
  void add(const T* numbers, std::size_t count) {
    using Real = AccumulatorOf<T>;
    using Bits = std::conditional_t<sizeof(Real) == 8, std::uint64_t, std::uint32_t>;
    for (std::size_t i = 0; i < count; ++i) {
      const Real x = convert<Real>(numbers[i]);
      const auto bits = x != x ? Bits(-1) : std::bit_cast<Bits>(x);
      for (unsigned shift = 0; shift < 8 * sizeof(bits); shift += 8) {
        byte(static_cast<std::uint8_t>(bits >> shift));
      }
    }
  }
  template <typename Range>
  void add(const Range& numbers) {
    add(numbers.data(), numbers.size());
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace gqa::bits
