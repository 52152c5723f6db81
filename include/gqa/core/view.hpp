// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// TensorView: [batch, tokens, heads, dim] with strides, from Eigen tensors, maps or raw pointers,
// never copying. Layouts differ between projects; behind a view they are only other strides.
#pragma once

#include <array>
#include <concepts>
#include <type_traits>

#include "gqa/core/borrowed.hpp"
#include "gqa/core/sizes.hpp"

namespace gqa {

/// Outer to inner: [batch, tokens, heads, dim].
struct TensorShape {
  Index batch = 1;
  Index tokens = 0;
  Index heads = 0;
  Index dim = 0;
  GQA_TAG friend bool operator==(const TensorShape&, const TensorShape&) = default;
};

/// In elements, between neighbours along each dimension; dim is contiguous.
struct TensorStrides {
  Index batch = 0;
  Index token = 0;
  Index head = 0;
};

GQA_TAG inline std::string to_string(const TensorShape& shape) {
  return message("[", shape.batch, ", ", shape.tokens, ", ", shape.heads, ", ", shape.dim, "]");
}

namespace detail {

GQA_TAG inline void check_not_negative(const TensorShape& shape) {
  require(shape.batch >= 0 && shape.tokens >= 0 && shape.heads >= 0 && shape.dim >= 0,
          "a TensorView has no negative size: ", shape);
}
/// Throws unless strides of a tensor without gaps are numbers, even where it has no elements.
GQA_TAG inline void check_dense(const TensorShape& shape, std::size_t element_bytes) {
  // Sizes below 2^14, none of them negative: 56 bits for the elements and 4 for their bytes.
  if ((shape.batch | shape.tokens | shape.heads | shape.dim) >> 14 == 0 && sizeof(Index) == 8) {
    return;
  }
  check_not_negative(shape);
  const auto at_least_1 = [](Index size) { return size > 0 ? size : 1; };
  memory_bytes("TensorView",
               {at_least_1(shape.batch), at_least_1(shape.tokens), at_least_1(shape.heads),
                at_least_1(shape.dim), static_cast<Index>(element_bytes)});
}
/// Strides of [batch, tokens, heads, dim].
GQA_TAG inline TensorStrides tokens_first_strides(const TensorShape& shape,
                                                  std::size_t element_bytes) {
  check_dense(shape, element_bytes);
  return {.batch = shape.tokens * shape.heads * shape.dim,
          .token = shape.heads * shape.dim,
          .head = shape.dim};
}
/// Strides of [batch, heads, tokens, dim].
GQA_TAG inline TensorStrides heads_first_strides(const TensorShape& shape,
                                                 std::size_t element_bytes) {
  check_dense(shape, element_bytes);
  return {.batch = shape.heads * shape.tokens * shape.dim,
          .token = shape.dim,
          .head = shape.tokens * shape.dim};
}

}  // namespace detail

template <typename T>
class TensorView {
 public:
  using Element = T;
  using Value = std::remove_const_t<T>;

  GQA_TAG constexpr TensorView() = default;

  /// A dense row-major [batch, tokens, heads, dim]. Throws std::invalid_argument for a negative
  /// size or a null pointer to elements, std::length_error for more bytes than an Index counts.
  GQA_TAG TensorView(T* data, const TensorShape& shape)
      : TensorView(data, shape, detail::tokens_first_strides(shape, sizeof(T))) {}

  /// Any strides, for slices of a fused QKV buffer, gaps, or heads before tokens. Throws
  /// std::invalid_argument.
  GQA_TAG TensorView(T* data, const TensorShape& shape, const TensorStrides& strides)
      : data_(data), shape_(shape), strides_(strides) {
    detail::check_not_negative(shape);
    require(data != nullptr || shape.batch == 0 || shape.tokens == 0 || shape.heads == 0 ||
                shape.dim == 0,
            "a TensorView of shape ", shape, " needs data, got a null pointer");
  }

  /// A view of const elements from one of mutable elements.
  GQA_TAG operator TensorView<const T>() const  // NOLINT(google-explicit-constructor)
    requires(!std::is_const_v<T>)
  {
    return {data_, shape_, strides_};
  }

  GQA_TAG T* data() const { return data_; }
  GQA_TAG const TensorShape& shape() const { return shape_; }
  GQA_TAG const TensorStrides& strides() const { return strides_; }
  GQA_TAG Index batch() const { return shape_.batch; }
  GQA_TAG Index tokens() const { return shape_.tokens; }
  GQA_TAG Index heads() const { return shape_.heads; }
  GQA_TAG Index dim() const { return shape_.dim; }

  /// The `dim` contiguous elements of one token and head.
  GQA_TAG T* row(Index batch, Index token, Index head) const {
    GQA_ASSERT(batch >= 0 && batch < shape_.batch && token >= 0 && token < shape_.tokens &&
               head >= 0 && head < shape_.heads);
    return data_ + batch * strides_.batch + token * strides_.token + head * strides_.head;
  }

  /// Tokens [begin, begin + count) of every sequence.
  GQA_TAG TensorView tokens_slice(Index begin, Index count) const {
    require(begin >= 0 && count >= 0 && count <= shape_.tokens - begin, "tokens [", begin, ", ",
            detail::saturated_sum(begin, count), ") are outside of ", shape_);
    return {
        data_ + begin * strides_.token, {shape_.batch, count, shape_.heads, shape_.dim}, strides_};
  }

  /// Heads [begin, begin + count), as in a fused QKV projection.
  GQA_TAG TensorView heads_slice(Index begin, Index count) const {
    require(begin >= 0 && count >= 0 && count <= shape_.heads - begin, "heads [", begin, ", ",
            detail::saturated_sum(begin, count), ") are outside of ", shape_);
    return {
        data_ + begin * strides_.head, {shape_.batch, shape_.tokens, count, shape_.dim}, strides_};
  }

  /// One sequence, as a batch of 1.
  GQA_TAG TensorView sequence(Index batch) const {
    require(batch >= 0 && batch < shape_.batch, "sequence ", batch, " is outside of ", shape_);
    return {data_ + batch * strides_.batch, {1, shape_.tokens, shape_.heads, shape_.dim}, strides_};
  }

 private:
  T* data_ = nullptr;
  TensorShape shape_;
  TensorStrides strides_;
};

namespace detail {

template <typename T>
inline constexpr bool is_tensor_view = false;
template <typename T>
inline constexpr bool is_tensor_view<TensorView<T>> = true;

/// Eigen::Tensor, Eigen::TensorMap: anything with a rank, a layout, sizes and a plain pointer.
template <typename T>
concept EigenTensor = requires(T& t) {
  T::NumDimensions;
  T::Layout;
  t.dimension(0);
  t.data();
};

/// Eigen::RowMajor and Eigen::DirectAccessBit.
inline constexpr int row_major = 1;
inline constexpr int direct_access_bit = 0x40;

template <typename T>
using ElementOf = std::remove_pointer_t<decltype(std::declval<T&>().data())>;

/// A row-major one of this rank that gives a T*. Tensor may be const.
template <typename Tensor, typename T, int rank>
concept EigenTensorOf =
    EigenTensor<Tensor> && std::remove_cv_t<Tensor>::NumDimensions == rank &&
    int(Tensor::Layout) == row_major && std::convertible_to<ElementOf<Tensor>*, T*>;

/// Sizes of a row-major Eigen tensor as [batch, x, y, dim]; rank 3 is one sequence.
template <typename T>
GQA_TAG std::array<Index, 4> sizes_of(const T& tensor) {
  static_assert(int(T::Layout) == row_major,
                "gqa views need a RowMajor tensor: write Eigen::Tensor<T, 4, Eigen::RowMajor>. "
                "Eigen's default, ColMajor, would read batch as the contiguous dimension");
  static_assert(T::NumDimensions == 3 || T::NumDimensions == 4,
                "gqa views take tensors of rank 4, [batch, tokens, heads, dim], or rank 3, "
                "[tokens, heads, dim] of one sequence");
  constexpr int offset = T::NumDimensions == 4 ? 1 : 0;
  return {offset ? Index(tensor.dimension(0)) : 1, Index(tensor.dimension(offset)),
          Index(tensor.dimension(offset + 1)), Index(tensor.dimension(offset + 2))};
}

}  // namespace detail

/// A TensorView of a row-major Eigen::Tensor or TensorMap: [batch, tokens, heads, dim], or
/// [tokens, heads, dim] of one sequence. A view passes through unchanged; a temporary tensor, whose
/// view would dangle, doesn't compile.
template <typename T>
GQA_TAG auto view(T&& tensor) {
  using Plain = std::remove_cvref_t<T>;
  if constexpr (detail::is_tensor_view<Plain>) {
    return tensor;
  } else {
    static_assert(detail::EigenTensor<Plain>,
                  "gqa views are made from gqa::TensorView, Eigen::Tensor or Eigen::TensorMap "
                  "(evaluate an Eigen expression into a tensor first)");
    detail::refuse_temporary<T>();
    const auto n = detail::sizes_of(tensor);
    return TensorView<detail::ElementOf<T>>(tensor.data(), {n[0], n[1], n[2], n[3]});
  }
}

/// The same for tensors with heads before tokens: [batch, heads, tokens, dim], or
/// [heads, tokens, dim] of one sequence (PyTorch's and ONNX's order). Nothing is moved. Throws as
/// TensorView's constructor.
template <typename T>
GQA_TAG auto heads_first(T&& tensor) {
  static_assert(detail::EigenTensor<std::remove_cvref_t<T>>,
                "heads_first takes an Eigen::Tensor or Eigen::TensorMap");
  detail::refuse_temporary<T>();
  const auto n = detail::sizes_of(tensor);
  const TensorShape shape{.batch = n[0], .tokens = n[2], .heads = n[1], .dim = n[3]};
  using Element = detail::ElementOf<T>;
  return TensorView<Element>(tensor.data(), shape,
                             detail::heads_first_strides(shape, sizeof(Element)));
}

/// The same for a plain pointer: `shape` is still named [batch, tokens, heads, dim].
template <typename T>
GQA_TAG TensorView<T> heads_first(T* data, const TensorShape& shape) {
  return {data, shape, detail::heads_first_strides(shape, sizeof(T))};
}

/// The element type of what view(tensor) gives, without const.
template <typename T>
using ScalarOf = typename decltype(view(std::declval<T&>()))::Value;

/// A view of the log-sum-exp of each attention row: [batch, num_heads, q_len], natural logarithm.
template <typename T>
class LseView {
 public:
  GQA_TAG constexpr LseView() = default;  ///< empty: not wanted
  GQA_TAG LseView(T* data, Index batch, Index num_heads, Index q_len)
      : data_(data), batch_(batch), num_heads_(num_heads), q_len_(q_len) {}
  /// A row-major Eigen tensor or map of rank 3, of T.
  template <typename Tensor>
    requires detail::EigenTensorOf<std::remove_reference_t<Tensor>, T, 3>
  GQA_TAG LseView(Tensor&& tensor)  // NOLINT(google-explicit-constructor)
      : LseView(tensor.data(), tensor.dimension(0), tensor.dimension(1), tensor.dimension(2)) {
    detail::refuse_temporary<Tensor>();
  }

  /// A view of const numbers from one of mutable ones.
  GQA_TAG operator LseView<const T>() const  // NOLINT(google-explicit-constructor)
    requires(!std::is_const_v<T>)
  {
    return {data_, batch_, num_heads_, q_len_};
  }

  GQA_TAG explicit operator bool() const { return data_ != nullptr; }
  GQA_TAG T* data() const { return data_; }
  GQA_TAG Index batch() const { return batch_; }
  GQA_TAG Index num_heads() const { return num_heads_; }
  GQA_TAG Index q_len() const { return q_len_; }
  GQA_TAG T& operator()(Index batch, Index head, Index token) const {
    return data_[(batch * num_heads_ + head) * q_len_ + token];
  }

 private:
  T* data_ = nullptr;
  Index batch_ = 0;
  Index num_heads_ = 0;
  Index q_len_ = 0;
};

}  // namespace gqa
