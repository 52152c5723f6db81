// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Turning heads so that they agree before they are pooled (Jin et al. 2024, "Align Attention Heads
// Before Merging Them", arXiv 2412.20677). A layer has many weights that compute the same: values
// may be turned by any rotation R if wo takes it back, (wo Rᵀ)(R wv) = wo wv; keys and queries by
// any that commutes with rope, which are rotations of each pair of channels by an angle of its own.
// Heads may also change places, if the query heads go along. Of all those, align_heads() takes the
// ones whose neighbours are most alike. What the layer computes does not change.
//
// Afterwards mean pooling (layer_pooling.hpp) loses less; head_fitting.hpp goes on from there.
#pragma once

#include <complex>
#include <utility>
#include <vector>

#include "gqa/convert/head_pooling.hpp"
#include "gqa/module/multi_head_attention.hpp"

// After the above, which keeps GCC's warnings about its own intrinsics away.
#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/SVD>

namespace gqa {

struct HeadAlignment {
  Index num_kv_heads = 0;  ///< that will be made of the layer's, which it divides
  bool regroup = true;     ///< choose which heads go together; otherwise neighbours
  /// Of the layer's inputs: Σ x xᵀ [hidden_size, hidden_size] over calibration text. Heads are then
  /// compared by what they make of such inputs. Empty: by their weights.
  Eigen::MatrixXd second_moments = {};
};

namespace detail {
inline namespace GQA_ISA {

/// One KV head as rows of numbers to compare, [dim, inputs].
using HeadRows = Eigen::MatrixXd;

/// The rotations that leave a layer's function alone: of all rows of values, of pairs of keys' rows
/// under rope, of the rows of keys that rope leaves alone.
class FreeRotation {
 public:
  static FreeRotation of_values(Index value_dim) {
    FreeRotation result(value_dim);
    for (Index row = 0; row < value_dim; ++row) result.block_.push_back(row);
    return result;
  }
  static FreeRotation of_keys(const MultiHeadAttentionConfig& c) {
    FreeRotation result(c.head_dim);
    const Index rotary_dim = c.rotary_dim();
    for (Index i = 0; i < rotary_dim / 2; ++i) {
      const bool halves = c.rope->style == RopeStyle::rotate_half;
      result.pairs_.push_back(halves ? std::pair(i, i + rotary_dim / 2)
                                     : std::pair(2 * i, 2 * i + 1));
    }
    for (Index row = rotary_dim; row < c.head_dim; ++row) result.block_.push_back(row);
    return result;
  }

  /// The R of this kind for which R · rows comes nearest to `target`: of a pair, the angle between
  /// two complex rows; of the block, orthogonal Procrustes (Schönemann 1966).
  Eigen::MatrixXd nearest(const HeadRows& target, const HeadRows& rows) const {
    Eigen::MatrixXd r = Eigen::MatrixXd::Identity(dim_, dim_);
    const Eigen::MatrixXd product = target * rows.transpose();
    for (const auto& [a, b] : pairs_) {
      const auto turn = overlap(product, a, b);
      const double size = (std::abs)(turn);
      if (!(size > 0)) continue;
      const double cos = turn.real() / size, sin = turn.imag() / size;
      r(a, a) = r(b, b) = cos;
      r(a, b) = -sin;
      r(b, a) = sin;
    }
    if (!block_.empty()) {
      const Eigen::MatrixXd cut = product(block_, block_);
      // BDCSVD would be faster for head_dim 128 (some 10 ms against 50), but costs every file that
      // includes this half a minute of compile time.
      using Svd = Eigen::JacobiSVD<Eigen::MatrixXd, Eigen::NoQRPreconditioner>;
      const Svd svd(cut, Eigen::ComputeFullU | Eigen::ComputeFullV);
      r(block_, block_) = svd.matrixU() * svd.matrixV().transpose();
    }
    return r;
  }

  /// The inner product of a with b as nearest() turns it.
  double likeness(const HeadRows& a, const HeadRows& b) const {
    const Eigen::MatrixXd product = a * b.transpose();
    double sum = 0;
    for (const auto& [first, second] : pairs_) sum += (std::abs)(overlap(product, first, second));
    if (!block_.empty()) {
      const Eigen::MatrixXd cut = product(block_, block_);
      // The sum of the singular values, precisely enough to compare.
      const Eigen::MatrixXd square = cut.transpose() * cut;
      const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(square, Eigen::EigenvaluesOnly);
      sum += solver.eigenvalues().cwiseMax(0.0).cwiseSqrt().sum();
    }
    return sum;
  }

 private:
  explicit FreeRotation(Index dim) : dim_(dim) {}

  /// <target, rows> of a pair, rows as the complex row a + i b.
  static std::complex<double> overlap(const Eigen::MatrixXd& product, Index a, Index b) {
    return {product(a, a) + product(b, b), product(b, a) - product(a, b)};
  }

  Index dim_;
  std::vector<std::pair<Index, Index>> pairs_;
  std::vector<Index> block_;
};

/// The KV heads of wk or wv in the metric of the calibration, the bias as one more input.
template <typename T>
std::vector<HeadRows> heads_to_compare(const MultiHeadAttention<T>& layer, AttentionWeight weight,
                                       AttentionWeight bias, const Eigen::MatrixXd& metric) {
  const AttentionWeights<T>& weights = layer.weights();
  Eigen::MatrixXd rows = weights.matrix(weight).template cast<double>();
  require(rows.allFinite() && (!weights.has(bias) || weights.vector(bias).allFinite()),
          "a projection of keys or values has numbers that are not finite");
  if (metric.size() > 0) rows = (rows * metric).eval();
  if (weights.has(bias)) {
    rows.conservativeResize(Eigen::NoChange, rows.cols() + 1);
    rows.rightCols(1) = weights.vector(bias).template cast<double>();
  }
  const Index heads = layer.config().num_kv_heads, dim = rows.rows() / heads;
  std::vector<HeadRows> result;
  for (Index h = 0; h < heads; ++h) result.push_back(rows.middleRows(h * dim, dim));
  return result;
}

/// Adds how alike any two heads are, as a part of how large all of them are.
inline void add_likeness(const std::vector<HeadRows>& heads, const FreeRotation& rotation,
                         Eigen::MatrixXd& sum) {
  double size = 0;
  for (const HeadRows& rows : heads) size += rows.squaredNorm();
  if (!(size > 0)) return;
  for (Index a = 0; a < std::ssize(heads); ++a) {
    for (Index b = 0; b < a; ++b) {
      const double likeness =
          rotation.likeness(heads[static_cast<std::size_t>(a)], heads[static_cast<std::size_t>(b)]);
      sum(a, b) += likeness / size;
      sum(b, a) = sum(a, b);
    }
  }
}

/// An order in which the members of each group are alike: from neighbours, the best exchange of two
/// heads, until there is none.
inline std::vector<Index> order_by_likeness(const Eigen::MatrixXd& likeness, Index group) {
  const Index heads = likeness.rows();
  std::vector<Index> order(static_cast<std::size_t>(heads));
  for (Index h = 0; h < heads; ++h) order[static_cast<std::size_t>(h)] = h;
  const auto at = [&](Index i) { return order[static_cast<std::size_t>(i)]; };
  // How much head `head` is like the group of place i, the head at that place aside.
  const auto fits = [&](Index head, Index i) {
    double sum = 0;
    for (Index j = i / group * group; j < (i / group + 1) * group; ++j) {
      if (j != i) sum += likeness(head, at(j));
    }
    return sum;
  };
  for (;;) {
    double best = 1e-9 * likeness.sum();  // less is rounding
    std::pair<Index, Index> exchange{0, 0};
    for (Index i = 0; i < heads; ++i) {
      for (Index j = (i / group + 1) * group; j < heads; ++j) {
        const double gain = fits(at(i), j) + fits(at(j), i) - fits(at(i), i) - fits(at(j), j);
        if (gain > best) {
          best = gain;
          exchange = {i, j};
        }
      }
    }
    if (exchange.second == 0) return order;
    std::swap(order[static_cast<std::size_t>(exchange.first)],
              order[static_cast<std::size_t>(exchange.second)]);
  }
}

/// One rotation for each head, so that those of a group agree: each is turned to the sum of the
/// others, again and again (generalised Procrustes, Gower 1975).
inline std::vector<Eigen::MatrixXd> agree(const std::vector<HeadRows>& heads, Index group,
                                          const FreeRotation& rotation) {
  std::vector<Eigen::MatrixXd> result(heads.size());
  if (group == 1) {  // nobody to agree with
    for (auto& r : result) r = Eigen::MatrixXd::Identity(heads[0].rows(), heads[0].rows());
    return result;
  }
  const auto members = static_cast<std::size_t>(group);
  for (std::size_t first = 0; first < heads.size(); first += members) {
    std::vector<HeadRows> turned;
    HeadRows sum = heads[first];
    for (std::size_t i = 0; i < members; ++i) {
      const HeadRows& rows = heads[first + i];
      result[first + i] = rotation.nearest(sum, rows);
      turned.push_back(result[first + i] * rows);
      sum = i == 0 ? turned[0] : HeadRows(sum + turned[i]);
    }
    for (int round = 0; round < 5 && group > 2; ++round) {  // two agree at once
      for (std::size_t i = 0; i < members; ++i) {
        sum -= turned[i];
        result[first + i] = rotation.nearest(sum, heads[first + i]);
        turned[i] = result[first + i] * heads[first + i];
        sum += turned[i];
      }
    }
  }
  return result;
}

/// rows [heads * dim, …] of one head <- R rows.
template <typename M>
void turn_rows(M&& matrix, Index head, const Eigen::MatrixXd& r) {
  using T = typename std::remove_cvref_t<M>::Scalar;
  auto rows = matrix.middleRows(head * r.rows(), r.rows());
  rows = (r * rows.template cast<double>()).template cast<T>().eval();
}

}  // namespace GQA_ISA
}  // namespace detail

inline namespace GQA_ISA {

/// Puts a layer's heads in another order and turns them, so that pooling neighbours to
/// options.num_kv_heads loses little; what the layer computes stays the same, but for rounding.
/// Returns the order: place i has what was KV head order[i]. With QK-norm, which turned keys would
/// change, keys are not turned. Throws std::invalid_argument; the layer is then as it was.
template <typename T>
std::vector<Index> align_heads(MultiHeadAttention<T>& layer, const HeadAlignment& options) {
  using detail::FreeRotation;
  const MultiHeadAttentionConfig& c = layer.config();
  const HeadPooling pooling{.from = c.num_kv_heads, .to = options.num_kv_heads};
  detail::check_pooling(pooling);
  Eigen::MatrixXd metric;
  if (options.second_moments.size() > 0) {
    const Eigen::MatrixXd& moments = options.second_moments;
    require(moments.rows() == c.kv_hidden_size && moments.cols() == c.kv_hidden_size,
            "second_moments are [", moments.rows(), ", ", moments.cols(), "], kv_hidden_size is ",
            c.kv_hidden_size);
    require(moments.allFinite() && moments.trace() > 0, "second_moments have a trace of ",
            moments.trace());
    // A factor L of the moments: |w L|² is what w makes of the text. A little of the identity keeps
    // inputs that the text never had from counting for nothing.
    Eigen::MatrixXd sum = moments / (moments.trace() / static_cast<double>(moments.rows()));
    sum.diagonal().array() += 1e-3;
    const Eigen::LLT<Eigen::MatrixXd> factor(sum);
    require(factor.info() == Eigen::Success, "second_moments are not those of any inputs");
    metric = factor.matrixL();
  }

  const auto& weights = std::as_const(layer).weights();
  const auto compare = [&](AttentionWeight weight, AttentionWeight bias) {
    return detail::heads_to_compare(layer, weight, bias, metric);
  };
  const FreeRotation of_keys = FreeRotation::of_keys(c);
  const FreeRotation of_values = FreeRotation::of_values(c.value_dim);
  auto keys = compare(AttentionWeight::wk, AttentionWeight::bk);
  auto values = compare(AttentionWeight::wv, AttentionWeight::bv);

  std::vector<Index> order;
  if (options.regroup && pooling.to > 1 && pooling.group() > 1) {
    Eigen::MatrixXd likeness = Eigen::MatrixXd::Zero(c.num_kv_heads, c.num_kv_heads);
    detail::add_likeness(keys, of_keys, likeness);
    detail::add_likeness(values, of_values, likeness);
    order = detail::order_by_likeness(likeness, pooling.group());
  } else {
    for (Index h = 0; h < c.num_kv_heads; ++h) order.push_back(h);
  }

  // Everything that may throw comes before the layer changes.
  const Index group = c.num_heads / c.num_kv_heads;
  const auto queries = query_order(order, group);
  const auto permuted = [&](AttentionWeight weight, std::span<const Index> heads) {
    return permute_heads(weights.matrix(weight), heads, weight == AttentionWeight::wo);
  };
  const auto in_order = [&](std::vector<detail::HeadRows>& heads) {
    std::vector<detail::HeadRows> result;
    for (const Index h : order) result.push_back(heads[static_cast<std::size_t>(h)]);
    heads = std::move(result);
  };
  in_order(keys);
  in_order(values);
  const auto key_turns = detail::agree(keys, pooling.group(), of_keys);
  const auto value_turns = detail::agree(values, pooling.group(), of_values);
  auto wq = permuted(AttentionWeight::wq, queries);
  auto wk = permuted(AttentionWeight::wk, order);
  auto wv = permuted(AttentionWeight::wv, order);
  auto wo = permuted(AttentionWeight::wo, queries);
  Eigen::Matrix<T, Eigen::Dynamic, 1> bq, bk, bv;
  if (weights.has(AttentionWeight::bk)) {
    bq = permute_heads(weights.vector(AttentionWeight::bq), queries);
    bk = permute_heads(weights.vector(AttentionWeight::bk), order);
    bv = permute_heads(weights.vector(AttentionWeight::bv), order);
  }

  for (Index h = 0; h < c.num_kv_heads; ++h) {
    const auto& turn = key_turns[static_cast<std::size_t>(h)];
    if (!c.qk_norm) {
      detail::turn_rows(wk, h, turn);
      if (bk.size() > 0) detail::turn_rows(bk, h, turn);
    }
    const auto& value_turn = value_turns[static_cast<std::size_t>(h)];
    detail::turn_rows(wv, h, value_turn);
    if (bv.size() > 0) detail::turn_rows(bv, h, value_turn);
    for (Index q = h * group; q < (h + 1) * group; ++q) {
      if (!c.qk_norm) {
        detail::turn_rows(wq, q, turn);
        if (bq.size() > 0) detail::turn_rows(bq, q, turn);
      }
      detail::turn_rows(wo.transpose(), q, value_turn);
    }
  }
  layer.wq() = wq;
  layer.wk() = wk;
  layer.wv() = wv;
  layer.wo() = wo;
  if (bk.size() > 0) {
    layer.weights().vector(AttentionWeight::bq) = bq;
    layer.weights().vector(AttentionWeight::bk) = bk;
    layer.weights().vector(AttentionWeight::bv) = bv;
  }
  return order;
}

}  // namespace GQA_ISA
}  // namespace gqa
