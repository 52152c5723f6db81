// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// RowsKv: keys and values that lie in the user's own row-major tensors, as a KvSource. Nothing is
// owned; kernels pack the rows into strips on the way.
#pragma once

#include <span>
#include <utility>

#include "gqa/core/kv_source.hpp"
#include "gqa/core/view.hpp"

namespace gqa {

/// Keys [batch, kv_len, num_kv_heads, head_dim] and values [batch, kv_len, num_kv_heads,
/// value_dim].
template <Scalar T>
class RowsKv {
 public:
  using Storage = T;
  static constexpr KvLayout layout = KvLayout::rows;

  /// `lengths`, [batch], says how many of the kv_len tokens each sequence has, where they differ.
  /// Throws std::invalid_argument if keys and values, or lengths, contradict each other.
  GQA_TAG RowsKv(TensorView<const T> keys, TensorView<const T> values,
                 const Borrowed<const Index>& lengths = {})
      : keys_(keys), values_(values), lengths_(lengths) {
    require(keys.batch() == values.batch() && keys.tokens() == values.tokens() &&
                keys.heads() == values.heads(),
            "RowsKv: keys are ", keys.shape(), ", values ", values.shape());
    require(lengths.empty() || std::ssize(lengths) == keys.batch(), "RowsKv: ", std::ssize(lengths),
            " lengths for a batch of ", keys.batch());
    for (const Index n : lengths) {
      require(n >= 0 && n <= keys.tokens(), "RowsKv: a length of ", n, " is outside of [0, ",
              keys.tokens(), "]");
    }
  }

  GQA_TAG Index batch() const { return keys_.batch(); }
  GQA_TAG Index num_kv_heads() const { return keys_.heads(); }
  GQA_TAG Index head_dim() const { return keys_.dim(); }
  GQA_TAG Index value_dim() const { return values_.dim(); }
  GQA_TAG Index length(Index b) const {
    return lengths_.empty() ? keys_.tokens() : lengths_[static_cast<std::size_t>(b)];
  }

  template <typename F>
  GQA_TAG void for_each_run(Index b, Index kv_head, Index begin, Index end, F&& fn) const {
    if (begin == end) return;
    fn(RowRun<T>{.keys = keys_.row(b, begin, kv_head),
                 .key_stride = keys_.strides().token,
                 .values = values_.row(b, begin, kv_head),
                 .value_stride = values_.strides().token,
                 .first = begin,
                 .count = end - begin});
  }

 private:
  TensorView<const T> keys_;
  TensorView<const T> values_;
  std::span<const Index> lengths_;
};
/// RowsKv of row-major tensors, maps or views, which must stay.
template <typename Key, typename Value>
GQA_TAG auto rows_kv(Key&& keys, Value&& values, const Borrowed<const Index>& lengths = {}) {
  using T = ScalarOf<Key>;
  static_assert(std::same_as<T, ScalarOf<Value>>, "gqa: keys and values must be of one type");
  return RowsKv<T>(view(std::forward<Key>(keys)), view(std::forward<Value>(values)), lengths);
}

}  // namespace gqa
