// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Rotary position embedding (Su et al. 2021, arXiv 2104.09864): pairs of channels of a query or key
// are turned by an angle that grows with its position, so that their product depends on the
// distance alone. Pair i of a token at position p turns by p * w_i; w_i = theta^(-2i / rotary_dim),
// unless a scaling stretches it. Two conventions say which channels are a pair:
//
//   interleaved   (0, 1), (2, 3), …                       llama2.c, GPT-J, Meta's own Llama code
//   rotate_half   (0, r/2), (1, r/2 + 1), …               Hugging Face, GPT-NeoX; r = rotary_dim
//
// They are the same rotation with the rows of the q and k projections in another order, see
// module/weights.hpp. Partial rotation turns the first rotary_dim channels and leaves the others.
//
// Angles are computed in double: in float, position 100 000 would be off by 0.004 radians.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "gqa/core/scalar.hpp"
#include "gqa/core/sizes.hpp"
#include "gqa/core/vector.hpp"
#include "gqa/core/view.hpp"
#include "gqa/ops/rope_scaling.hpp"

namespace gqa {

/// The positions of a batch of tokens: absolute, counted from 0 in each sequence.
class RopePositions {
 public:
  /// Token t of every sequence sits at first + t.
  GQA_TAG explicit RopePositions(Index first = 0) : first_(first) {}
  /// Token t of sequence b sits at first[b] + t.
  GQA_TAG static RopePositions starting_at(const Borrowed<const Index>& first) {
    return {first, 0, 0};
  }
  /// Token t of sequence b sits at positions[b * tokens + t].
  GQA_TAG static RopePositions each(const Borrowed<const Index>& positions, Index tokens) {
    return {positions, tokens, 1};
  }

  GQA_TAG Index operator()(Index batch, Index token) const {
    if (given_.data() == nullptr) return detail::saturated_sum(first_, token);
    return step_ == 0 ? detail::saturated_sum(given_[static_cast<std::size_t>(batch)], token)
                      : given_[static_cast<std::size_t>(batch * tokens_ + token)];
  }

  /// Throws std::invalid_argument unless they fit a batch of this shape.
  GQA_TAG void check(Index batch, Index tokens) const {
    if (given_.data() == nullptr) return;
    const auto count = static_cast<Index>(given_.size());
    if (step_ == 0) {
      require(count == batch, "RopePositions has first positions of ", count,
              " sequences, the batch is ", batch);
    } else {
      require(tokens_ == tokens && count == batch * tokens, "RopePositions has ", count,
              " positions of ", tokens_, " tokens each, the batch has ", batch, " x ", tokens);
    }
  }

 private:
  GQA_TAG RopePositions(std::span<const Index> given, Index tokens, int step)
      : given_(given), tokens_(tokens), step_(step) {}

  Index first_ = 0;
  std::span<const Index> given_;
  Index tokens_ = 0;
  int step_ = 0;
};

/// The rotations of one model: frequencies, and cos and sin of as many positions as the caller
/// wants computed in advance. Real is float (also for bfloat16 and half) or double, what cos and
/// sin are kept in. It does not change after construction, so threads and layers may share one.
template <typename Real = float>
class RopeTable {
 public:
  /// An empty one, to be assigned to: apply_rope() refuses it.
  GQA_TAG RopeTable() = default;

  /// `table_positions` rows of cos and sin are kept, 2 * rotary_dim / 2 numbers each. Other
  /// positions (negative ones too) are computed when met: some 20 ns per pair and token, for all
  /// heads at once. Throws std::invalid_argument, and std::length_error for more than memory has.
  GQA_TAG RopeTable(const RopeConfig& config, Index head_dim, Index table_positions = 0)
      : config_(config), head_dim_(head_dim) {
    if (config_.rotary_dim == 0) config_.rotary_dim = head_dim;
    check_rotary_dim();
    require(config_.theta > 0, "rope theta must be positive, is ", config_.theta);
    require(table_positions >= 0, "table_positions must not be negative, is ", table_positions);
    frequencies_.resize(static_cast<std::size_t>(pairs()));
    for (Index i = 0; i < pairs(); ++i) {
      frequencies_[static_cast<std::size_t>(i)] = std::pow(
          config_.theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim()));
    }
    std::visit([this](const auto& scaling) { this->scale(scaling); }, config_.scaling);
    if (!std::holds_alternative<DynamicNtkRopeScaling>(config_.scaling)) {
      fill_table(table_positions);
    }
  }

  /// From given tables, [positions, rotary_dim / 2] each (ONNX's cos_cache and sin_cache).
  /// Positions outside of them are refused by apply_rope. Throws as the constructor.
  GQA_TAG static RopeTable from_tables(const Real* cos, const Real* sin, Index positions,
                                       Index rotary_dim, Index head_dim, RopeStyle style) {
    RopeTable table;
    table.config_.rotary_dim = rotary_dim;
    table.config_.style = style;
    table.head_dim_ = head_dim;
    table.check_rotary_dim();
    require(positions >= 0, "positions must not be negative, is ", positions);
    table.table_positions_ = positions;
    const std::size_t size = table.table_size(positions);
    table.cos_.assign(cos, cos + size);
    table.sin_.assign(sin, sin + size);
    return table;
  }

  GQA_TAG const RopeConfig& config() const { return config_; }
  GQA_TAG RopeStyle style() const { return config_.style; }
  GQA_TAG Index head_dim() const { return head_dim_; }
  GQA_TAG Index rotary_dim() const { return config_.rotary_dim; }
  GQA_TAG Index pairs() const { return config_.rotary_dim / 2; }
  GQA_TAG Index table_positions() const { return table_positions_; }
  /// What cos and sin are multiplied by; 1 for all scalings but YaRN.
  GQA_TAG double attention_factor() const { return attention_factor_; }

  /// w_i in radians per position. `length` matters to dynamic scaling only: tokens of the sequence.
  GQA_TAG double frequency(Index pair, Index length = 0) const {
    if (const auto* dynamic = std::get_if<DynamicNtkRopeScaling>(&config_.scaling)) {
      const auto trained = static_cast<double>(dynamic->max_position_embeddings);
      const double n = (std::max)(static_cast<double>(length), trained);
      const auto dim = static_cast<double>(rotary_dim());
      const double growth = dynamic->factor * n / trained - (dynamic->factor - 1);
      return frequencies_[static_cast<std::size_t>(pair)] *
             std::pow(growth, -2.0 * static_cast<double>(pair) / (dim - 2));
    }
    return frequencies_[static_cast<std::size_t>(pair)];
  }

  /// cos and sin of pairs [begin, begin + count) at a position, in the table or in `scratch` of
  /// 2 * count numbers.
  GQA_TAG std::pair<const Real*, const Real*> cos_sin(Index position, Index length, Index begin,
                                                      Index count, Real* scratch) const {
    if (position >= 0 && position < table_positions_) {
      const Index at = position * pairs() + begin;
      return {cos_.data() + at, sin_.data() + at};
    }
    for (Index i = 0; i < count; ++i) {
      const double angle = static_cast<double>(position) * frequency(begin + i, length);
      scratch[i] = static_cast<Real>(std::cos(angle) * attention_factor_);
      scratch[count + i] = static_cast<Real>(std::sin(angle) * attention_factor_);
    }
    return {scratch, scratch + count};
  }

  /// Throws std::invalid_argument for a position that given tables don't have.
  GQA_TAG void check_position(Index position) const {
    require(!frequencies_.empty() || (position >= 0 && position < table_positions_), "position ",
            position, " is outside of the given cos and sin tables, which have ", table_positions_,
            " rows");
  }

 private:
  GQA_TAG void check_rotary_dim() const {
    require(head_dim_ > 0, "head_dim must be positive, is ", head_dim_);
    require(rotary_dim() > 0 && rotary_dim() % 2 == 0 && rotary_dim() <= head_dim_,
            "rotary_dim must be even, positive and at most head_dim ", head_dim_, ", is ",
            rotary_dim());
  }
  GQA_TAG static void check_factor(double factor) {
    require(factor > 0, "rope scaling factor must be positive, is ", factor);
  }
  GQA_TAG static void check_length(Index length) {
    require(length > 0,
            "the original max_position_embeddings of a rope scaling must be positive, is ", length);
  }

  GQA_TAG void scale(const NoRopeScaling&) {}
  GQA_TAG void scale(const LinearRopeScaling& linear) {
    check_factor(linear.factor);
    for (double& w : frequencies_) w /= linear.factor;
  }
  GQA_TAG void scale(const DynamicNtkRopeScaling& dynamic) {
    require(dynamic.factor >= 1, "dynamic NTK scaling needs a factor of at least 1, is ",
            dynamic.factor);
    check_length(dynamic.max_position_embeddings);
    require(rotary_dim() > 2, "dynamic NTK scaling needs a rotary_dim above 2, is ", rotary_dim());
  }
  GQA_TAG void scale(const YarnRopeScaling& yarn) {
    check_factor(yarn.factor);
    check_length(yarn.original_max_position_embeddings);
    require(config_.theta > 1, "YaRN needs a rope theta above 1, is ", config_.theta);
    require(yarn.beta_fast >= yarn.beta_slow && yarn.beta_slow > 0,
            "YaRN needs beta_fast >= beta_slow > 0, they are ", yarn.beta_fast, " and ",
            yarn.beta_slow);
    detail::yarn_frequencies(yarn, config_.theta, frequencies_);
    attention_factor_ = detail::yarn_attention_factor(yarn);
  }
  GQA_TAG void scale(const Llama3RopeScaling& llama3) {
    check_factor(llama3.factor);
    check_length(llama3.original_max_position_embeddings);
    require(llama3.high_freq_factor > llama3.low_freq_factor,
            "Llama-3 scaling needs high_freq_factor > low_freq_factor, they are ",
            llama3.high_freq_factor, " and ", llama3.low_freq_factor);
    detail::llama3_frequencies(llama3, frequencies_);
  }

  /// Numbers in so many rows of cos.
  GQA_TAG std::size_t table_size(Index positions) const {
    const Index bytes = memory_bytes("RopeTable", {positions, pairs(), Index{sizeof(Real)}});
    return static_cast<std::size_t>(bytes) / sizeof(Real);
  }
  GQA_TAG void fill_table(Index positions) {
    detail::Vector<Real> row(static_cast<std::size_t>(2 * pairs()));
    cos_.reserve(table_size(positions));
    sin_.reserve(table_size(positions));
    for (Index p = 0; p < positions; ++p) {
      cos_sin(p, 0, 0, pairs(), row.data());
      cos_.insert(cos_.end(), row.begin(), row.begin() + pairs());
      sin_.insert(sin_.end(), row.begin() + pairs(), row.end());
    }
    table_positions_ = positions;
  }

  RopeConfig config_;
  Index head_dim_ = 0;
  double attention_factor_ = 1;
  std::vector<double> frequencies_;  // [rotary_dim / 2]; none if the tables were given
  Index table_positions_ = 0;
  std::vector<Real> cos_;  // [table_positions, rotary_dim / 2]
  std::vector<Real> sin_;
};

namespace detail {

/// Pairs whose cos and sin are at hand at a time, on the stack.
inline constexpr Index rope_chunk = 64;

template <typename Real>
GQA_TAG void check_rope(const RopeTable<Real>& table, const TensorShape& x,
                        const RopePositions& positions) {
  require(x.dim == table.head_dim(), "the tensor has head_dim ", x.dim, ", the RopeTable ",
          table.head_dim());
  positions.check(x.batch, x.tokens);
  for (Index b = 0; b < x.batch; ++b) {
    for (Index t = 0; t < x.tokens; ++t) table.check_position(positions(b, t));
  }
}

inline namespace GQA_ISA {

/// (a, b) -> (a cos - b sin, a sin + b cos) for pairs [begin, begin + count) of one row, in place.
template <typename T, typename Real>
void rotate_row(T* row, RopeStyle style, Index half, Index begin, Index count, const Real* cos,
                const Real* sin) {
  if (style == RopeStyle::interleaved) {
    T* pair = row + 2 * begin;
    for (Index i = 0; i < count; ++i) {
      const auto a = static_cast<Real>(pair[2 * i]);
      const auto b = static_cast<Real>(pair[2 * i + 1]);
      pair[2 * i] = static_cast<T>(a * cos[i] - b * sin[i]);
      pair[2 * i + 1] = static_cast<T>(a * sin[i] + b * cos[i]);
    }
  } else {
    T* GQA_RESTRICT first = row + begin;
    T* GQA_RESTRICT second = row + half + begin;
    for (Index i = 0; i < count; ++i) {
      const auto a = static_cast<Real>(first[i]);
      const auto b = static_cast<Real>(second[i]);
      first[i] = static_cast<T>(a * cos[i] - b * sin[i]);
      second[i] = static_cast<T>(a * sin[i] + b * cos[i]);
    }
  }
}

/// apply_rope(), checked: rotates, or with `back` applies the transposed rotation.
template <typename T, typename Real>
void rotate_rows(const RopeTable<Real>& table, const TensorView<T>& rows,
                 const RopePositions& positions, bool back) {
  Real scratch[2 * rope_chunk], sin_back[rope_chunk];
  for (Index b = 0; b < rows.batch(); ++b) {
    Index length = 0;  // of the sequence, for dynamic scaling
    for (Index t = 0; t < rows.tokens(); ++t) {
      length = (std::max)(length, detail::saturated_sum(positions(b, t), 1));
    }
    for (Index t = 0; t < rows.tokens(); ++t) {
      for (Index begin = 0; begin < table.pairs(); begin += rope_chunk) {
        const Index count = (std::min)(rope_chunk, table.pairs() - begin);
        const auto [cos, sin] = table.cos_sin(positions(b, t), length, begin, count, scratch);
        if (back) std::transform(sin, sin + count, sin_back, std::negate<>());
        for (Index h = 0; h < rows.heads(); ++h) {
          rotate_row(rows.row(b, t, h), table.style(), table.pairs(), begin, count, cos,
                     back ? sin_back : sin);
        }
      }
    }
  }
}

}  // namespace GQA_ISA
}  // namespace detail

inline namespace GQA_ISA {

/// Rotates x [batch, tokens, heads, head_dim] in place; channels from rotary_dim on stay as they
/// are. x is float, bfloat16 or half with a RopeTable<float>, double with a RopeTable<double>.
/// Negative positions rotate back, so a key moves by n positions if rotated with
/// RopePositions::each of n's. Allocates nothing. Throws std::invalid_argument before x is changed.
template <typename Tensor, typename Real>
void apply_rope(const RopeTable<Real>& table, Tensor&& x, const RopePositions& positions) {
  const auto rows = view(x);
  using T = typename decltype(rows)::Element;
  static_assert(!std::is_const_v<T>, "apply_rope rotates in place: pass a mutable tensor");
  static_assert(std::same_as<Real, AccumulatorOf<T>>,
                "apply_rope: double tensors take a RopeTable<double>, all others RopeTable<float>");
  detail::check_rope(table, rows.shape(), positions);

  detail::rotate_rows(table, rows, positions, false);
}

/// The same from x to `out` of the same shape; x is left as it is.
template <typename In, typename Out, typename Real>
void apply_rope(const RopeTable<Real>& table, const In& x, Out&& out,
                const RopePositions& positions) {
  const auto from = view(x);
  const auto to = view(out);
  require(from.shape() == to.shape(), "apply_rope: x has shape ", from.shape(), ", out ",
          to.shape());
  detail::check_rope(table, from.shape(), positions);
  for (Index b = 0; b < from.batch(); ++b) {
    for (Index t = 0; t < from.tokens(); ++t) {
      for (Index h = 0; h < from.heads(); ++h) {
        std::copy_n(from.row(b, t, h), from.dim(), to.row(b, t, h));
      }
    }
  }
  apply_rope(table, to, positions);
}

/// The gradient of apply_rope(): turns that of the rotated tensor into that of x, in place. The
/// transposed rotation, which is the rotation back times the square of a YaRN attention factor.
template <typename Tensor, typename Real>
void rope_backward(const RopeTable<Real>& table, Tensor&& gradient,
                   const RopePositions& positions) {
  const auto rows = view(gradient);
  using T = typename decltype(rows)::Element;
  static_assert(!std::is_const_v<T>, "rope_backward works in place: pass a mutable tensor");
  static_assert(std::same_as<Real, AccumulatorOf<T>>,
                "rope_backward: double tensors take a RopeTable<double>, all others "
                "RopeTable<float>");
  detail::check_rope(table, rows.shape(), positions);
  detail::rotate_rows(table, rows, positions, true);
}

}  // namespace GQA_ISA
}  // namespace gqa
