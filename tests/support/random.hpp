// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Random tensors that come out the same with any compiler and standard library, in every layout
// that a TensorView can describe. What lies between the elements is NaN, so that reading it shows.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "gqa/core/eigen.hpp"
#include "gqa/core/scalar.hpp"
#include "gqa/core/view.hpp"

namespace gqa::test {

/// splitmix64 (Steele et al. 2014): a few lines, and the standard library's distributions, which
/// differ from one implementation to the next, stay out of it.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t bits() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// In [0, 1).
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  /// In [low, high], both included.
  Index integer(Index low, Index high) {
    return low + static_cast<Index>(bits() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool chance(double probability) { return uniform() < probability; }
  /// Mean 0, standard deviation 1 (Box-Muller).
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }
  template <typename T>
  const T& pick(const std::vector<T>& from) {
    return from[static_cast<std::size_t>(integer(0, std::ssize(from) - 1))];
  }

 private:
  std::uint64_t state_;
};

/// The seed of the random cases of a run: GQA_TEST_SEED, or always the same.
inline std::uint64_t run_seed() {
  const char* text = std::getenv("GQA_TEST_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 20260722u;
}

/// How a tensor lies in memory.
enum class Layout {
  dense,        ///< [batch, tokens, heads, dim]
  heads_first,  ///< [batch, heads, tokens, dim]
  gaps,         ///< dense, but with a few elements between rows, tokens and sequences
  fused,        ///< a slice of heads of a wider buffer, as a fused QKV projection gives
};
inline constexpr std::array all_layouts{Layout::dense, Layout::heads_first, Layout::gaps,
                                        Layout::fused};

inline std::string to_string(Layout layout) {
  constexpr std::array names{"dense", "heads_first", "gaps", "fused"};
  return names[static_cast<std::size_t>(layout)];
}

/// A tensor that owns its elements, with NaN around and between them.
template <Scalar T>
class TestTensor {
 public:
  TestTensor() = default;
  explicit TestTensor(const TensorShape& shape, Layout layout = Layout::dense) : shape_(shape) {
    switch (layout) {
      case Layout::dense:
        strides_ = {shape.tokens * shape.heads * shape.dim, shape.heads * shape.dim, shape.dim};
        break;
      case Layout::heads_first:
        strides_ = {shape.tokens * shape.heads * shape.dim, shape.dim, shape.tokens * shape.dim};
        break;
      case Layout::gaps:
        strides_.head = shape.dim + 3;
        strides_.token = strides_.head * shape.heads + 5;
        strides_.batch = strides_.token * shape.tokens + 7;
        break;
      case Layout::fused:
        strides_.head = shape.dim;
        strides_.token = (shape.heads + 3) * shape.dim;
        strides_.batch = shape.tokens * strides_.token;
        offset_ = 2 * shape.dim;  // two heads of something else before, one behind
        break;
    }
    const Index elements = offset_ + shape.batch * strides_.batch + shape.tokens * strides_.token +
                           shape.heads * strides_.head + guard;
    data_.assign(static_cast<std::size_t>(elements), convert<T>(nan));
    for_each([](T& x) { x = T(0); });
  }

  TensorView<T> view() { return {data_.data() + offset_, shape_, strides_}; }
  TensorView<const T> view() const { return {data_.data() + offset_, shape_, strides_}; }
  const TensorShape& shape() const { return shape_; }
  T* row(Index batch, Index token, Index head) { return view().row(batch, token, head); }
  const T* row(Index batch, Index token, Index head) const {
    return view().row(batch, token, head);
  }

  /// fn(element) for all, in the order of a dense tensor whatever the layout.
  template <typename F>
  void for_each(F fn) {
    for (Index b = 0; b < shape_.batch; ++b) {
      for (Index t = 0; t < shape_.tokens; ++t) {
        for (Index h = 0; h < shape_.heads; ++h) {
          T* x = row(b, t, h);
          for (Index c = 0; c < shape_.dim; ++c) fn(x[c]);
        }
      }
    }
  }
  void fill_normal(Random& random, double deviation = 1) {
    for_each([&](T& x) { x = convert<T>(deviation * random.normal()); });
  }
  void fill(double value) {
    for_each([&](T& x) { x = convert<T>(value); });
  }
  /// One token of one head of one sequence.
  void fill_row(Index batch, Index token, Index head, double value) {
    std::fill_n(row(batch, token, head), shape_.dim, convert<T>(value));
  }
  /// The elements in the order of a dense tensor, as another type.
  template <Scalar To>
  TestTensor<To> to(Layout layout = Layout::dense) const {
    TestTensor<To> other(shape_, layout);
    for (Index b = 0; b < shape_.batch; ++b) {
      for (Index t = 0; t < shape_.tokens; ++t) {
        for (Index h = 0; h < shape_.heads; ++h) {
          std::transform(row(b, t, h), row(b, t, h) + shape_.dim, other.row(b, t, h),
                         [](T x) { return convert<To>(x); });
        }
      }
    }
    return other;
  }
  /// Everything, gaps included: equal bits before and after show that nothing was written.
  const std::vector<T>& storage() const { return data_; }

  static constexpr double nan = std::numeric_limits<double>::quiet_NaN();

 private:
  static constexpr Index guard = 16;

  TensorShape shape_;
  TensorStrides strides_;
  Index offset_ = 0;
  std::vector<T> data_;
};

/// Normal numbers of a given shape.
template <Scalar T>
TestTensor<T> random_tensor(Random& random, const TensorShape& shape, double deviation = 1,
                            Layout layout = Layout::dense) {
  TestTensor<T> tensor(shape, layout);
  tensor.fill_normal(random, deviation);
  return tensor;
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         std::equal(reinterpret_cast<const unsigned char*>(a.data()),
                    reinterpret_cast<const unsigned char*>(a.data() + a.size()),
                    reinterpret_cast<const unsigned char*>(b.data()));
}

}  // namespace gqa::test
