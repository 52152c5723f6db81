// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// From many key/value heads to few: what Ainslie et al. 2023 (arXiv 2305.13245, section 2.1 and
// figure 4) do to the K and V projections of a trained multi-head checkpoint before they train on.
// Their ranking is mean > first > random. Weights are [out, in], heads one after another along the
// rows, as PyTorch's Linear keeps them; `transposed` says that heads lie along the columns. Biases
// are vectors. head_alignment.hpp turns heads so that they agree before they are pooled, which
// loses less.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <type_traits>
#include <vector>

#include "gqa/core/borrowed.hpp"
#include "gqa/core/eigen.hpp"
#include "gqa/core/heads.hpp"
#include "gqa/core/scalar.hpp"

namespace gqa {

/// Which heads of a weight become one.
struct HeadPooling {
  Index from = 0;           ///< heads that the weight has; divides its rows
  Index to = 0;             ///< heads wanted; divides `from`
  bool transposed = false;  ///< heads along the columns: [in, out], as GPT-2's Conv1D
  /// [from]: the heads of group 0, then those of group 1, …; empty: neighbours. Other than
  /// neighbours, the query heads must follow their keys: see query_order().
  Borrowed<const Index> order = {};

  GQA_TAG Index group() const { return from / to; }
  /// Member i of a group.
  GQA_TAG Index member(Index to_head, Index i) const {
    const Index at = to_head * group() + i;
    return order.empty() ? at : order[static_cast<std::size_t>(at)];
  }
};

namespace detail {

/// Throws std::invalid_argument unless `order` has each of 0 … count - 1 once.
GQA_TAG inline void check_head_order(std::span<const Index> order, Index count) {
  require(std::ssize(order) == count, "the order has ", order.size(), " heads, the weight ", count);
  std::vector<bool> seen(static_cast<std::size_t>(count));
  for (const Index head : order) {
    require(head >= 0 && head < count, "the order has head ", head, " of a weight with ", count);
    require(!seen[static_cast<std::size_t>(head)], "the order has head ", head, " twice");
    seen[static_cast<std::size_t>(head)] = true;
  }
}

GQA_TAG inline void check_pooling(const HeadPooling& pooling) {
  require(pooling.from > 0 && pooling.to > 0, "the numbers of heads must be positive, are ",
          pooling.from, " and ", pooling.to);
  require(pooling.from % pooling.to == 0, "heads to make, ", pooling.to,
          ", do not divide the heads there are, ", pooling.from);
  if (!pooling.order.empty()) check_head_order(pooling.order, pooling.from);
}

inline namespace GQA_ISA {

/// A weight seen as heads: element i of head h. Row vectors have their heads along the columns.
template <typename Derived>
class HeadBlocks {
 public:
  HeadBlocks(const Derived& weight, Index heads, bool transposed)
      : weight_(weight), columns_(transposed != (Derived::RowsAtCompileTime == 1)) {
    constexpr bool is_vector = bool(Derived::IsVectorAtCompileTime);
    if (is_vector) columns_ = Derived::RowsAtCompileTime == 1;
    const Index length = columns_ ? weight.cols() : weight.rows();
    require(length % heads == 0, heads, " heads do not divide the ", length,
            columns_ ? " columns" : " rows", " of a weight [", weight.rows(), ", ", weight.cols(),
            "]");
    dim_ = length / heads;
  }

  bool columns() const { return columns_; }
  Index dim() const { return dim_; }
  Index others() const { return columns_ ? weight_.rows() : weight_.cols(); }

  /// The weight with another number of heads, its elements not set.
  auto resized(Index heads) const {
    using T = typename Derived::Scalar;
    constexpr int options = Derived::IsRowMajor ? Eigen::RowMajor : Eigen::ColMajor;
    if constexpr (Derived::RowsAtCompileTime == 1) {
      return Eigen::Matrix<T, 1, Eigen::Dynamic, Eigen::RowMajor>(heads * dim_);
    } else if constexpr (Derived::ColsAtCompileTime == 1) {
      return Eigen::Matrix<T, Eigen::Dynamic, 1>(heads * dim_);
    } else {
      using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, options>;
      return columns_ ? Matrix(others(), heads * dim_) : Matrix(heads * dim_, others());
    }
  }

  /// result(head, d) = fn(head, d, other) for all elements of a weight with `heads` heads.
  template <typename F>
  auto make(Index heads, F fn) const {
    auto result = resized(heads);
    for (Index h = 0; h < heads; ++h) {
      for (Index d = 0; d < dim_; ++d) {
        for (Index other = 0; other < others(); ++other) {
          auto& to = columns_ ? result.coeffRef(other, h * dim_ + d)
                              : result.coeffRef(h * dim_ + d, other);
          to = fn(h, d, other);
        }
      }
    }
    return result;
  }

  auto operator()(Index head, Index d, Index other) const {
    const Index at = head * dim_ + d;
    return columns_ ? weight_.coeff(other, at) : weight_.coeff(at, other);
  }

 private:
  const Derived& weight_;
  bool columns_;
  Index dim_ = 0;
};

template <typename Derived>
HeadBlocks<Derived> head_blocks(const Eigen::MatrixBase<Derived>& weight,
                                const HeadPooling& pooling) {
  static_assert(Scalar<typename Derived::Scalar>, "weights are float, double, bfloat16 or half");
  check_pooling(pooling);
  return {weight.derived(), pooling.from, pooling.transposed};
}

/// x² + sum, rounded once on every machine.
inline double add_square(double sum, double x) { return std::fma(x, x, sum); }

}  // namespace GQA_ISA
}  // namespace detail

inline namespace GQA_ISA {

/// Each new head is the mean of its group's. Sums are double; heads that are equal give that very
/// head. The result is a matrix of the same type and storage order, or a vector for a bias. Throws
/// std::invalid_argument for numbers of heads or orders that don't fit, as do all functions here.
template <typename Derived>
auto mean_pool_heads(const Eigen::MatrixBase<Derived>& weight, const HeadPooling& pooling) {
  const auto heads = detail::head_blocks(weight, pooling);
  const auto group = static_cast<double>(pooling.group());
  return heads.make(pooling.to, [&](Index h, Index d, Index other) {
    // As a distance from the first: that of equal heads is exactly 0, also in double.
    const auto first = static_cast<double>(heads(pooling.member(h, 0), d, other));
    double distance = 0;
    for (Index i = 1; i < pooling.group(); ++i) {
      distance += static_cast<double>(heads(pooling.member(h, i), d, other)) - first;
    }
    return convert<typename Derived::Scalar>(first + distance / group);
  });
}

/// Each new head is the first of its group.
template <typename Derived>
auto first_pool_heads(const Eigen::MatrixBase<Derived>& weight, const HeadPooling& pooling) {
  const auto heads = detail::head_blocks(weight, pooling);
  return heads.make(pooling.to, [&](Index h, Index d, Index other) {
    return heads(pooling.member(h, 0), d, other);
  });
}

/// New heads that know nothing: uniform random numbers around 0 with the old heads' root mean
/// square. The same seed gives the same bits on every machine and with every compiler, each seed
/// other ones; a layer's K, V and biases want seeds of their own.
template <typename Derived>
auto random_pool_heads(const Eigen::MatrixBase<Derived>& weight, const HeadPooling& pooling,
                       std::uint64_t seed) {
  const auto heads = detail::head_blocks(weight, pooling);
  double sum = 0;
  for (Index h = 0; h < pooling.from; ++h) {
    for (Index d = 0; d < heads.dim(); ++d) {
      for (Index other = 0; other < heads.others(); ++other) {
        sum = detail::add_square(sum, static_cast<double>(heads(h, d, other)));
      }
    }
  }
  const auto size = static_cast<double>(weight.size());
  // Uniform on [-a, a) has variance a² / 3. An empty weight has no root mean square.
  const double a = size > 0 ? std::sqrt(3 * (sum / size)) : 0.0;
  std::mt19937_64 random(seed);  // the standard fixes its numbers, but not those of distributions
  return heads.make(pooling.to, [&](Index, Index, Index) {
    const double unit = static_cast<double>(random() >> 11) * 0x1p-53;  // [0, 1)
    return convert<typename Derived::Scalar>((2 * unit - 1) * a);
  });
}

/// The same weight with its heads in another order: head h of the result is order[h] of `weight`.
template <typename Derived>
auto permute_heads(const Eigen::MatrixBase<Derived>& weight, std::span<const Index> order,
                   bool transposed = false) {
  const Index count = std::ssize(order);
  require(count > 0, "an order of no heads");
  return first_pool_heads(weight,
                          {.from = count, .to = count, .transposed = transposed, .order = order});
}

/// How much pooling changed: the root of Σ |old head - its new head|² / Σ |old head|². 0 is nothing
/// at all; heads that have nothing in common come to sqrt(1 - 1 / group).
template <typename Derived, typename Pooled>
double head_pooling_error(const Eigen::MatrixBase<Derived>& weight,
                          const Eigen::MatrixBase<Pooled>& pooled, const HeadPooling& pooling) {
  const auto heads = detail::head_blocks(weight, pooling);
  const detail::HeadBlocks<Pooled> fewer(pooled.derived(), pooling.to, pooling.transposed);
  require(fewer.dim() == heads.dim() && fewer.others() == heads.others(), "weights [",
          weight.rows(), ", ", weight.cols(), "] and [", pooled.rows(), ", ", pooled.cols(),
          "] are not heads of one size");
  double change = 0, size = 0;
  for (Index h = 0; h < pooling.to; ++h) {
    for (Index i = 0; i < pooling.group(); ++i) {
      for (Index d = 0; d < heads.dim(); ++d) {
        for (Index other = 0; other < heads.others(); ++other) {
          const auto old = static_cast<double>(heads(pooling.member(h, i), d, other));
          change = detail::add_square(change, old - static_cast<double>(fewer(h, d, other)));
          size = detail::add_square(size, old);
        }
      }
    }
  }
  return size > 0 ? std::sqrt(change / size) : 0.0;
}

}  // namespace GQA_ISA

/// The query heads that go with an order of KV heads, where each of those serves `group` of them:
/// {2, 0, 1} and group 2 give {4, 5, 0, 1, 2, 3}. Use it with permute_heads() on wq and bq, and,
/// transposed, on wo.
GQA_TAG inline std::vector<Index> query_order(std::span<const Index> kv_order, Index group) {
  require(group > 0, "group must be positive, is ", group);
  detail::check_head_order(kv_order, std::ssize(kv_order));
  std::vector<Index> order;
  order.reserve(kv_order.size() * static_cast<std::size_t>(group));
  for (const Index head : kv_order) {
    for (Index i = 0; i < group; ++i) order.push_back(head * group + i);
  }
  return order;
}

}  // namespace gqa
