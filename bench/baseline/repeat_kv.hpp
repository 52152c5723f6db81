// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What compare measures the library against: grouped-query attention as one writes it in an
// afternoon with Eigen matrices, after the eager path of Hugging Face's modelling code. Keys and
// values are repeated for each query head (repeat_kv), then each head is two Eigen products around
// a softmax.
#pragma once

#include <cmath>
#include <gqa/gqa.hpp>
#include <limits>
#include <vector>

namespace gqa::bench {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using HeadOf = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;  // [tokens, dim] of a tensor

/// Attention of one head, the queries being the last tokens: q [q_len, head_dim], k and v
/// [kv_len, head_dim].
inline Matrix attend_head(const HeadOf& q, const Eigen::Map<const Matrix>& k,
                          const Eigen::Map<const Matrix>& v) {
  Matrix s = (q * k.transpose()) / std::sqrt(static_cast<float>(q.cols()));  // [q_len, kv_len]
  for (Index i = 0; i < s.rows(); ++i) {
    auto row = s.row(i);
    row.tail(s.rows() - 1 - i).setConstant(-std::numeric_limits<float>::infinity());
    row = (row.array() - row.maxCoeff()).exp().matrix();
    row /= row.sum();
  }
  return s * v;
}

/// A cache of one sequence and attention over it. `Storage` is what keys and values are kept in;
/// the products are in float, since Eigen's 16-bit products are slower and round after every
/// addition.
template <Scalar Storage>
class RepeatKv {
 public:
  using Stored = Eigen::Matrix<Storage, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  RepeatKv(Index num_heads, Index num_kv_heads, Index head_dim, Index capacity)
      : num_heads_(num_heads),
        group_(num_heads / num_kv_heads),
        keys_(static_cast<std::size_t>(num_kv_heads), Stored(capacity, head_dim)),
        values_(keys_) {
    if (!repeats()) return;
    repeated_keys_.resize(static_cast<std::size_t>(num_heads), Matrix(capacity, head_dim));
    repeated_values_ = repeated_keys_;
  }

  /// k, v [1, tokens, num_kv_heads, head_dim]
  template <typename Tensor>
  void append(const Tensor& k, const Tensor& v) {
    const Index tokens = k.dimension(1), heads = k.dimension(2), dim = k.dimension(3);
    for (Index h = 0; h < heads; ++h) {
      const auto rows = [&](const Tensor& t) {
        return head_of(t.data() + h * dim, tokens, heads, dim);
      };
      at(keys_, h).middleRows(length_, tokens) = rows(k).template cast<Storage>();
      at(values_, h).middleRows(length_, tokens) = rows(v).template cast<Storage>();
    }
    length_ += tokens;
  }
  void truncate(Index length) { length_ = length; }

  /// Causal attention of the last tokens: q, out [1, q_len, num_heads, head_dim].
  template <typename Tensor, typename ExecutorT>
  void attend(const Tensor& q, Tensor& out, ExecutorT& executor) {
    const Index q_len = q.dimension(1), dim = q.dimension(3);
    if (repeats()) {
      executor.run(num_heads_, [&](Index h, Index) noexcept {
        at(repeated_keys_, h).topRows(length_) = stored(keys_, h).template cast<float>();
        at(repeated_values_, h).topRows(length_) = stored(values_, h).template cast<float>();
      });
    }
    executor.run(num_heads_, [&](Index h, Index) noexcept {
      Eigen::Map<Matrix, 0, Eigen::OuterStride<>>(out.data() + h * dim, q_len, dim,
                                                  Eigen::OuterStride<>(num_heads_ * dim)) =
          attend_head(head_of(q.data() + h * dim, q_len, num_heads_, dim),
                      rows(keys_, repeated_keys_, h), rows(values_, repeated_values_, h));
    });
  }

 private:
  /// MHA in float needs no copy.
  bool repeats() const { return group_ > 1 || !std::same_as<Storage, float>; }

  template <typename Matrices>
  static auto& at(Matrices& matrices, Index h) {
    return matrices[static_cast<std::size_t>(h)];
  }
  auto stored(const std::vector<Stored>& matrices, Index head) const {
    return at(matrices, head / group_).topRows(length_);
  }
  /// The tokens' rows of what query head `head` reads, [length, head_dim].
  auto rows(const std::vector<Stored>& stored, const std::vector<Matrix>& repeated,
            Index head) const {
    const float* data = nullptr;
    if constexpr (std::same_as<Storage, float>) data = at(stored, head / group_).data();
    if (repeats()) data = at(repeated, head).data();
    return Eigen::Map<const Matrix>(data, length_, at(stored, 0).cols());
  }
  static HeadOf head_of(const float* data, Index tokens, Index heads, Index dim) {
    return {data, tokens, dim, Eigen::OuterStride<>(heads * dim)};
  }

  Index num_heads_;
  Index group_;
  Index length_ = 0;
  std::vector<Stored> keys_;  // [num_kv_heads] of [capacity, head_dim]
  std::vector<Stored> values_;
  std::vector<Matrix> repeated_keys_;  // [num_heads] of [capacity, head_dim]
  std::vector<Matrix> repeated_values_;
};

}  // namespace gqa::bench
