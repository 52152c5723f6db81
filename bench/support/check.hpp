// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A benchmark of wrong results is worth nothing: what gets timed is compared with the reference
// first. Decode steps in full, prefills in a sample of their tokens, as the reference is slow.
#pragma once

#include <cmath>
#include <gqa/gqa.hpp>
#include <limits>
#include <memory>
#include <vector>

#include "support/data.hpp"
#include "support/difference.hpp"  // of tests/
#include "support/row_scale.hpp"

namespace gqa::bench {

/// How far a result is from the reference.
struct Agreement {
  double difference = 0;          ///< largest, absolute
  double share_of_tolerance = 0;  ///< largest |difference| / its row's tolerance; above 1 is wrong
  bool good() const { return share_of_tolerance <= 1; }
};

/// The reference's rows of some tokens of a causal call, the queries being the last tokens of each
/// sequence.
class SampledReference {
 public:
  template <KvSource Source, RulesOrPart RulesT = Causal>
  SampledReference(const Tensor& q, const Source& source, const RulesT& rules = {},
                   Index samples = 16)
      : SampledReference(q.dimension(1), samples) {
    const Index batch = q.dimension(0), heads = q.dimension(2), dim = q.dimension(3);
    Tensor picked(batch, std::ssize(tokens_), heads, dim);
    std::vector<Index> positions;
    for (Index b = 0; b < batch; ++b) {
      for (Index i = 0; i < std::ssize(tokens_); ++i) {
        picked.chip(b, 0).chip(i, 0) = q.chip(b, 0).chip(token(i), 0);
        positions.push_back(source.length(b) - q.dimension(1) + token(i));
      }
    }
    expected_ = Tensor(batch, std::ssize(tokens_), heads, source.value_dim());
    ReferenceOptions<float> options;
    options.positions = positions;
    reference(picked, source, expected_, rules, options);
    find_tolerances(picked, source, positions);
  }

  /// out [batch, q_len, num_heads, value_dim] of the whole call.
  Agreement agreement(const Tensor& out) const {
    Agreement worst;
    for (Index b = 0; b < expected_.dimension(0); ++b) {
      for (Index i = 0; i < expected_.dimension(1); ++i) {
        for (Index h = 0; h < expected_.dimension(2); ++h) {
          for (Index c = 0; c < expected_.dimension(3); ++c) {
            const double difference =
                test::difference(out(b, token(i), h, c), expected_(b, i, h, c));
            worst.difference = std::max(worst.difference, difference);
            worst.share_of_tolerance =
                std::max(worst.share_of_tolerance, difference / tolerances_(b, i, h));
          }
        }
      }
    }
    return worst;
  }

 private:
  /// Evenly spread tokens, the first and the last among them.
  SampledReference(Index q_len, Index samples) {
    const Index count = std::min(samples, q_len);
    for (Index i = 1; i <= count; ++i) {
      tokens_.push_back(count == 1 ? q_len - 1 : (i - 1) * (q_len - 1) / (count - 1));
    }
  }
  Index token(Index i) const { return tokens_[static_cast<std::size_t>(i)]; }

  template <typename Storage>
  static test::RowScale row_scale(double head_dim) {
    if constexpr (is_quantized<Storage>) {
      return {.head_dim = head_dim};
    } else {
      return test::RowScale::of<float, Storage>(head_dim);
    }
  }

  /// What rounding a query and its weights to 8 bits may change in the result, relative to the
  /// largest value: half a step of the query in each of its products with a key, and half of 1/255
  /// of the largest weight in each weight. The errors of many keys walk randomly, as those of sums
  /// do, so that the bound that tests/kernel/quantized_test.cpp proves would be far too wide here;
  /// times 4.
  static double quantization_error(const float* q, const float* keys, Index seen, Index dim) {
    const Eigen::Map<const Eigen::VectorXf> query(q, dim);
    const Eigen::Map<const Eigen::MatrixXf> k(keys, dim, seen);  // a column is a key
    const double scale = 1 / std::sqrt(static_cast<double>(dim));
    const Eigen::ArrayXd scores = (k.transpose() * query).cast<double>().array() * scale;
    const Eigen::ArrayXd weights = (scores - scores.maxCoeff()).exp();
    const double longest_k = std::sqrt(double{k.colwise().squaredNorm().maxCoeff()});
    const double score = double{int8_scale(q, dim)} / 2 * longest_k * scale;
    const double weight = 0.5 / 255;
    return 4 * (score * weights.matrix().norm() + weight * std::sqrt(static_cast<double>(seen))) /
           weights.sum();
  }

  /// The tests' tolerances: keys and values are as the source stores them on both sides.
  template <KvSource Source>
  void find_tolerances(const Tensor& q, const Source& source, const std::vector<Index>& positions) {
    using Vector = Eigen::Map<const Eigen::VectorXf>;
    const Index dim = source.head_dim(), value_dim = source.value_dim();
    const Index samples = q.dimension(1), group = q.dimension(2) / source.num_kv_heads();
    tolerances_.resize(q.dimension(0), samples, q.dimension(2));
    for (Index b = 0; b < q.dimension(0); ++b) {
      const Index length = source.length(b);
      // 0 where a ring has dropped a key
      Eigen::VectorXf k = Eigen::VectorXf::Zero(length * dim);
      Eigen::VectorXf v = Eigen::VectorXf::Zero(length * value_dim);
      const auto present = std::make_unique<bool[]>(static_cast<std::size_t>(length));
      for (Index kv_head = 0; kv_head < source.num_kv_heads(); ++kv_head) {
        copy_rows(source, b, kv_head, k.data(), v.data(), present.get());
        double longest_k = 0, largest_v = 0;  // of keys [0, seen)
        Index seen = 0;
        for (Index i = 0; i < samples; ++i) {
          for (; seen <= positions[static_cast<std::size_t>(b * samples + i)]; ++seen) {
            longest_k = std::max(longest_k, double{Vector(k.data() + seen * dim, dim).norm()});
            largest_v = std::max(
                largest_v,
                double{Vector(v.data() + seen * value_dim, value_dim).cwiseAbs().maxCoeff()});
          }
          for (Index h = kv_head * group; h < (kv_head + 1) * group; ++h) {
            test::RowScale row = row_scale<typename Source::Storage>(static_cast<double>(dim));
            row.kv_len = static_cast<double>(seen);
            row.max_score = double{Vector(&q(b, i, h, 0), dim).norm()} * longest_k /
                            std::sqrt(static_cast<double>(dim));
            row.max_value = largest_v;
            tolerances_(b, i, h) = row.out_tolerance<float, float>(0);
            if constexpr (is_quantized<typename Source::Storage>) {
              tolerances_(b, i, h) +=
                  largest_v * quantization_error(&q(b, i, h, 0), k.data(), seen, dim);
            }
          }
        }
      }
    }
  }

  std::vector<Index> tokens_;                             // sampled
  Tensor expected_;                                       // [batch, samples, num_heads, value_dim]
  Eigen::Tensor<double, 3, Eigen::RowMajor> tolerances_;  // [batch, samples, num_heads]
};

}  // namespace gqa::bench
