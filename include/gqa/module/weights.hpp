// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The weights of an attention layer: one buffer, in which wq, wk and wv lie on top of one another,
// so that self-attention projects x once. Matrices are [out, in], row-major, as PyTorch's Linear.
// Checkpoints are read and written by the names they use, see weight_names.hpp.
#pragma once

#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "gqa/core/eigen.hpp"
#include "gqa/core/scalar.hpp"
#include "gqa/core/workspace.hpp"
#include "gqa/module/config.hpp"
#include "gqa/module/linear.hpp"
#include "gqa/module/weight_names.hpp"
#include "gqa/ops/rows.hpp"

namespace gqa {

/// How a checkpoint keeps a weight, where its name doesn't say.
struct WeightFormat {
  bool transposed = false;  ///< [in, out], as GPT-2's Conv1D
  /// Order of the rows that rope pairs; none: that of the name. GPT-J and Cohere, for example, use
  /// Hugging Face names and rotate interleaved pairs.
  std::optional<RopeStyle> style = {};
};

/// Weights of T, float or double; all zero until they are set. A weight counts as set once set()
/// has succeeded, or once it was handed out to be written: matrix(), vector(), numbers() of an
/// object that isn't const, set_zero().
template <typename T>
class AttentionWeights {
 public:
  using Vector = Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, 1>>;
  using ConstVector = Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, 1>>;

  /// `config` as resolved() returns it.
  GQA_TAG explicit AttentionWeights(const MultiHeadAttentionConfig& config) : config_(config) {
    buffer_ = AlignedBuffer(carve(nullptr));
    carve(buffer_.data());
    fill_zero();
  }
  GQA_TAG AttentionWeights(AttentionWeights&&) noexcept = default;
  GQA_TAG AttentionWeights& operator=(AttentionWeights&&) noexcept = default;
  GQA_TAG ~AttentionWeights() = default;

  /// A matrix [rows, cols] or a vector [rows], cols 1; 0 rows if the configuration has no such
  /// weight.
  struct Shape {
    Index rows = 0;
    Index cols = 1;
  };
  GQA_TAG Shape shape_of(AttentionWeight weight) const {
    const MultiHeadAttentionConfig& c = config_;
    const Index qkv = c.query_width() + c.key_width() + c.value_width();
    switch (weight) {
      case AttentionWeight::wq:
        return {c.query_width(), c.hidden_size};
      case AttentionWeight::wk:
        return {c.key_width(), c.kv_hidden_size};
      case AttentionWeight::wv:
        return {c.value_width(), c.kv_hidden_size};
      case AttentionWeight::wqkv:
        return {is_fused() ? qkv : 0, c.hidden_size};
      case AttentionWeight::wo:
        return {c.hidden_size, c.attention_width()};
      case AttentionWeight::bq:
        return {c.qkv_bias ? c.query_width() : 0, 1};
      case AttentionWeight::bk:
        return {c.qkv_bias ? c.key_width() : 0, 1};
      case AttentionWeight::bv:
        return {c.qkv_bias ? c.value_width() : 0, 1};
      case AttentionWeight::bqkv:
        return {c.qkv_bias ? qkv : 0, 1};
      case AttentionWeight::bo:
        return {c.out_bias ? c.hidden_size : 0, 1};
      case AttentionWeight::q_norm:
      case AttentionWeight::k_norm:
        return {c.qk_norm ? c.head_dim : 0, 1};
    }
    return {};
  }
  GQA_TAG bool has(AttentionWeight weight) const { return shape_of(weight).rows > 0; }
  /// Are wq, wk and wv one matrix? Not if keys and values are made from something of another width.
  GQA_TAG bool is_fused() const { return config_.hidden_size == config_.kv_hidden_size; }

  /// The weight itself, rows in the order of the configuration's rope style.
  GQA_TAG WeightMap<T> matrix(AttentionWeight weight) {
    mark(weight);
    const Shape shape = shape_of(weight);
    return {place(weight), eigen_index(shape.rows), eigen_index(shape.cols)};
  }
  GQA_TAG ConstWeightMap<T> matrix(AttentionWeight weight) const {
    const Shape shape = shape_of(weight);
    return {place(weight), eigen_index(shape.rows), eigen_index(shape.cols)};
  }
  GQA_TAG Vector vector(AttentionWeight weight) {
    mark(weight);
    return {place(weight), eigen_index(shape_of(weight).rows)};
  }
  GQA_TAG ConstVector vector(AttentionWeight weight) const {
    return {place(weight), eigen_index(shape_of(weight).rows)};
  }
  /// wk and wv as one matrix [key_width + value_width, kv_hidden_size].
  GQA_TAG ConstWeightMap<T> wkv() const {
    return {wk_, eigen_index(config_.key_width() + config_.value_width()),
            eigen_index(config_.kv_hidden_size)};
  }
  /// The same without Eigen, as the passes use them.
  GQA_TAG detail::WeightRows<T> rows(AttentionWeight weight) {
    mark(weight);
    const Shape shape = shape_of(weight);
    return {place(weight), eigen_index(shape.rows), eigen_index(shape.cols)};
  }
  GQA_TAG detail::WeightRows<const T> rows(AttentionWeight weight) const {
    const Shape shape = shape_of(weight);
    return {place(weight), eigen_index(shape.rows), eigen_index(shape.cols)};
  }
  GQA_TAG detail::WeightRows<const T> wkv_rows() const {
    return {wk_, eigen_index(config_.key_width() + config_.value_width()),
            eigen_index(config_.kv_hidden_size)};
  }
  /// A bias or the weight of a norm; empty where the configuration has none.
  GQA_TAG std::span<T> numbers(AttentionWeight weight) {
    mark(weight);
    return {place(weight), static_cast<std::size_t>(shape_of(weight).rows)};
  }
  GQA_TAG std::span<const T> numbers(AttentionWeight weight) const {
    return {place(weight), static_cast<std::size_t>(shape_of(weight).rows)};
  }
  /// A bias, or null where the configuration has none.
  GQA_TAG const T* bias(AttentionWeight weight) const {
    return has(weight) ? place(weight) : nullptr;
  }

  /// All numbers in one stretch, with zeros between the weights: what an optimiser walks through,
  /// beside those of the gradients.
  GQA_TAG std::span<T> numbers() {
    set_ = ~0u;
    return {reinterpret_cast<T*>(buffer_.data()), buffer_.bytes() / sizeof(T)};
  }
  GQA_TAG void set_zero() {
    set_ = ~0u;
    fill_zero();
  }

  /// Was the weight set? Of wqkv: were wq, wk and wv?
  GQA_TAG bool is_set(AttentionWeight weight) const {
    return (set_ & bits_of(weight)) == bits_of(weight);
  }
  /// The Hugging Face names of the weights that the configuration has a place for and that were
  /// never set.
  GQA_TAG std::vector<std::string_view> missing() const {
    using enum AttentionWeight;
    constexpr std::array weights{wq, wk, wv, wo, bq, bk, bv, bo, q_norm, k_norm};
    std::array<std::string_view, weights.size()> names;
    auto end = names.begin();
    for (const AttentionWeight weight : weights) {
      if (has(weight) && !is_set(weight)) *end++ = attention_weight_name(weight);
    }
    return {names.begin(), end};
  }

  /// Sets a weight from a matrix (row-major) or tensor of its shape, or from a contiguous range of
  /// as many numbers, of any Scalar type. Throws std::invalid_argument for a name that is unknown
  /// or that the configuration has no place for, and for another shape; the weights are then as
  /// they were.
  template <typename Source>
  GQA_TAG void set(std::string_view name, const Source& source, const WeightFormat& format = {}) {
    const AttentionWeightName found = find(name);
    const auto from = source_of(name, source, found.weight, format);
    T* const to = place(found.weight);
    each(found, format, [&](Index i, Index row, Index col) {
      to[i] = static_cast<T>(*(from.data() + row * from.strides().token + col));
    });
    mark(found.weight);
  }

  /// Copies a weight to a destination as set() takes it, from T to its type.
  template <typename Destination>
  GQA_TAG void get(std::string_view name, Destination&& destination,
                   const WeightFormat& format = {}) const {
    const AttentionWeightName found = find(name);
    const auto to = source_of(name, destination, found.weight, format);
    using To = typename decltype(to)::Value;
    const T* const from = place(found.weight);
    each(found, format, [&](Index i, Index row, Index col) {
      *(to.data() + row * to.strides().token + col) = static_cast<To>(from[i]);
    });
  }

 private:
  /// Eigen's own index may be int (EIGEN_DEFAULT_DENSE_INDEX_TYPE).
  template <typename Number>
  GQA_TAG static constexpr Eigen::Index eigen_index(Number i) {
    GQA_ASSERT(i <= (std::numeric_limits<Eigen::Index>::max)());
    return static_cast<Eigen::Index>(i);
  }
  GQA_TAG static constexpr unsigned bits_of(AttentionWeight weight) {
    using enum AttentionWeight;
    switch (weight) {
      case wqkv:
        return bits_of(wq) | bits_of(wk) | bits_of(wv);
      case bqkv:
        return bits_of(bq) | bits_of(bk) | bits_of(bv);
      default:
        return 1u << static_cast<unsigned>(weight);
    }
  }
  GQA_TAG void mark(AttentionWeight weight) { set_ |= bits_of(weight); }
  GQA_TAG void fill_zero() { std::fill_n(buffer_.data(), buffer_.bytes(), std::byte{0}); }

  GQA_TAG AttentionWeightName find(std::string_view name) const {
    const auto found = find_attention_weight(name);
    require(found.has_value(), "\"", name, "\" is no weight of an attention layer");
    require(has(found->weight), "the configuration has no place for \"", name, "\" (qkv_bias ",
            config_.qkv_bias, ", out_bias ", config_.out_bias, ", qk_norm ",
            config_.qk_norm.has_value(), ", hidden_size ", config_.hidden_size, ", kv_hidden_size ",
            config_.kv_hidden_size, ")");
    return *found;
  }

  /// A view [1, rows, 1, cols] of what set() and get() are given, its shape checked.
  template <typename Source>
  GQA_TAG auto source_of(std::string_view name, Source& source, AttentionWeight weight,
                         const WeightFormat& format) const {
    const Shape shape = shape_of(weight);
    const bool is_vector = shape.cols == 1;
    const bool transposed = format.transposed && !is_vector;
    const TensorShape expected{.batch = 1,
                               .tokens = transposed ? shape.cols : shape.rows,
                               .heads = 1,
                               .dim = transposed ? shape.rows : shape.cols};
    if constexpr (detail::DenseMatrix<std::remove_cv_t<Source>> || detail::EigenTensor<Source>) {
      const auto rows = rows_of(source);
      if (is_vector && rows.tokens() == 1 && rows.dim() == shape.rows) {  // lying down
        return TensorView(rows.data(), expected);
      }
      require(rows.shape() == expected, "\"", name, "\" must be [", expected.tokens, ", ",
              expected.dim, "], is [", rows.tokens(), ", ", rows.dim(), "]");
      return rows;
    } else {
      const Index size = expected.tokens * expected.dim;
      require(std::ssize(source) == size, "\"", name, "\" must have ", expected.tokens, " x ",
              expected.dim, " = ", size, " numbers, has ", std::ssize(source));
      return TensorView(source.data(), expected);
    }
  }

  /// Calls fn(index of ours, row, column of theirs) for each element of a weight.
  template <typename F>
  GQA_TAG void each(const AttentionWeightName& name, const WeightFormat& format, F fn) const {
    const Shape shape = shape_of(name.weight);
    const RopeStyle theirs = format.style.value_or(name.style);
    for (Index row = 0; row < shape.rows; ++row) {
      const Index our_row = stored_row(name.weight, row, theirs);
      for (Index col = 0; col < shape.cols; ++col) {
        const Index i = our_row * shape.cols + col;
        format.transposed&& shape.cols > 1 ? fn(i, col, row) : fn(i, row, col);
      }
    }
  }

  /// Where a row that a checkpoint keeps in the order `theirs` is kept here.
  GQA_TAG Index stored_row(AttentionWeight weight, Index row, RopeStyle theirs) const {
    const bool rotated = weight != AttentionWeight::wv && weight != AttentionWeight::bv &&
                         weight != AttentionWeight::wo && weight != AttentionWeight::bo;
    const bool is_value = row >= config_.query_width() + config_.key_width();  // of wqkv, bqkv
    if (!rotated || is_value || !config_.rope) return row;
    return rope_row(row, config_.head_dim, config_.rotary_dim(), theirs, config_.rope->style);
  }

  GQA_TAG const T* place(AttentionWeight weight) const {
    switch (weight) {
      case AttentionWeight::wq:
      case AttentionWeight::wqkv:
        return wq_;
      case AttentionWeight::wk:
        return wk_;
      case AttentionWeight::wv:
        return wk_ + config_.key_width() * config_.kv_hidden_size;
      case AttentionWeight::wo:
        return wo_;
      case AttentionWeight::bq:
      case AttentionWeight::bqkv:
        return bq_;
      case AttentionWeight::bk:
        return bq_ + config_.query_width();
      case AttentionWeight::bv:
        return bq_ + config_.query_width() + config_.key_width();
      case AttentionWeight::bo:
        return bo_;
      case AttentionWeight::q_norm:
        return q_norm_;
      case AttentionWeight::k_norm:
        return k_norm_;
    }
    return nullptr;
  }
  GQA_TAG T* place(AttentionWeight weight) {
    return const_cast<T*>(std::as_const(*this).place(weight));
  }

  /// Places everything from `base` on and returns the bytes it takes.
  GQA_TAG std::size_t carve(std::byte* base) {
    Carver carver(base);
    const auto elements = [this](AttentionWeight weight) {
      return shape_of(weight).rows * shape_of(weight).cols;
    };
    const Index q = elements(AttentionWeight::wq);
    const Index kv = elements(AttentionWeight::wk) + elements(AttentionWeight::wv);
    wq_ = carver.take<T>(q + kv);
    wk_ = base ? wq_ + q : nullptr;
    wo_ = carver.take<T>(elements(AttentionWeight::wo));
    bq_ = carver.take<T>(elements(AttentionWeight::bqkv));
    bo_ = carver.take<T>(elements(AttentionWeight::bo));
    q_norm_ = carver.take<T>(elements(AttentionWeight::q_norm));
    k_norm_ = carver.take<T>(elements(AttentionWeight::k_norm));
    return carver.bytes();
  }

  MultiHeadAttentionConfig config_;
  AlignedBuffer buffer_;
  unsigned set_ = 0;     // bits_of() the weights that were set
  T* wq_ = nullptr;      // [query_width, hidden_size], wk after it
  T* wk_ = nullptr;      // [key_width, kv_hidden_size], wv [value_width, kv_hidden_size] after it
  T* wo_ = nullptr;      // [hidden_size, attention_width]
  T* bq_ = nullptr;      // [query_width], bk and bv after it
  T* bo_ = nullptr;      // [hidden_size]
  T* q_norm_ = nullptr;  // [head_dim]
  T* k_norm_ = nullptr;  // [head_dim]
};

}  // namespace gqa
