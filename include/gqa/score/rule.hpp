// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What becomes of a score before the softmax: scale, soft cap, biases, sink logits. The order is
// that of ONNX, ggml and FlashAttention, however the parts are written down:
//
//   (q·k) scale  ->  soft cap  ->  + biases (in the order given)  ->  mask  ->  softmax
#pragma once

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "gqa/score/mask.hpp"
#include "gqa/simd/arch.hpp"

namespace gqa {

/// What a ScoreRule does, which decides when. Also the stages at which reference() shows scores,
/// numbered as ONNX's qk_matmul_output_mode: after scale; after soft cap; after biases and masks
/// (hidden scores are -inf); after softmax.
enum class ScoreStage { scaled = 0, capped = 1, biased = 2, softmax = 3 };

/// Anything with score(x, Where) for float and double, const and safe to call from several threads;
/// it may throw, as a Mask may.
/// `static constexpr ScoreStage stage` is `capped` or `biased`; without it, `biased`.
template <typename R>
concept ScoreRule = requires(const R& rule, const Where& where) {
  { rule.score(1.0f, where) } -> std::same_as<float>;
  { rule.score(1.0, where) } -> std::same_as<double>;
};

namespace detail {

/// A ScoreRule that only adds to the score: its derivative is 1.
template <typename R>
concept IsShift = ScoreRule<R> && requires { requires R::is_shift; };

template <typename R>
concept HasDerivative = requires(const R& rule, const Where& where) {
  { rule.derivative(1.0f, where) } -> std::same_as<float>;
  { rule.derivative(1.0, where) } -> std::same_as<double>;
};

}  // namespace detail

/// A ScoreRule that attend_backward() can pass through: derivative(x, Where) is that of score() in
/// x, for float and double; a rule that only adds to x says `static constexpr bool is_shift = true`
/// instead.
template <typename R>
concept DifferentiableScoreRule = ScoreRule<R> && (detail::IsShift<R> || detail::HasDerivative<R>);

/// Replaces the default scale, 1 / sqrt(head_dim).
struct Scale {
  double scale = 1.0;
};

/// cap · tanh(x / cap) (Gemma 2). Without a cap, leave the rule out: an infinite one is refused.
struct SoftCap {
  static constexpr ScoreStage stage = ScoreStage::capped;

  float cap = 50.0f;

  GQA_TAG void check(const AttentionShape&) const {
    require(cap > 0, "SoftCap: the cap must be positive, is ", cap);
    require(cap < std::numeric_limits<float>::infinity(), "SoftCap: the cap must be finite, is ",
            cap);
  }
  template <typename T>
  GQA_TAG T score(T x, const Where&) const {
    return T(cap) * std::tanh(x / T(cap));
  }
  template <typename T>
  GQA_TAG simd::Pack<T> scores(simd::Pack<T> x, const Where&) const {
    const auto c = simd::Pack<T>::broadcast(T(cap));
    return c * tanh(x / c);
  }
  template <typename T>
  GQA_TAG T derivative(T x, const Where&) const {
    const T t = std::tanh(x / T(cap));
    return 1 - t * t;
  }
  template <typename T>
  GQA_TAG simd::Pack<T> derivatives(simd::Pack<T> x, const Where&) const {
    const auto t = tanh(x / simd::Pack<T>::broadcast(T(cap)));
    return simd::Pack<T>::broadcast(T(1)) - t * t;
  }
};

/// Adds slope_h · (k_pos - q_pos) (Press et al. 2021, arXiv 2108.12409).
class Alibi {
 public:
  static constexpr bool is_shift = true;

  /// slopes [num_heads].
  GQA_TAG explicit Alibi(std::vector<float> slopes)
      : slopes_(std::make_shared<const std::vector<float>>(std::move(slopes))) {}

  /// 2^(-8/n), 2^(-16/n), … for n heads; for n that is no power of two, the paper's code: those of
  /// the power of two below, then every other one of twice that.
  GQA_TAG static Alibi standard(Index num_heads) {
    require(num_heads > 0, "Alibi::standard: num_heads must be positive, is ", num_heads);
    Index power = 1;
    while (2 * power <= num_heads) power *= 2;
    const auto slope = [](Index i, Index n) {
      return static_cast<float>(
          std::exp2(-8.0 * static_cast<double>(i + 1) / static_cast<double>(n)));
    };
    std::vector<float> slopes;
    for (Index h = 0; h < num_heads; ++h) {
      slopes.push_back(h < power ? slope(h, power) : slope(2 * (h - power), 2 * power));
    }
    return Alibi(std::move(slopes));
  }
  GQA_TAG const std::vector<float>& slopes() const { return *slopes_; }

  GQA_TAG void check(const AttentionShape& s) const {
    require(std::ssize(*slopes_) == s.num_heads, "Alibi has ", std::ssize(*slopes_),
            " slopes for num_heads ", s.num_heads);
  }
  template <typename T>
  GQA_TAG T score(T x, const Where& w) const {
    return x + T((*slopes_)[static_cast<std::size_t>(w.head)]) * static_cast<T>(w.k_pos - w.q_pos);
  }
  template <typename T>
  GQA_TAG simd::Pack<T> scores(simd::Pack<T> x, const Where& first) const {
    using Pack = simd::Pack<T>;
    const Pack distances =
        Pack::broadcast(static_cast<T>(first.k_pos - first.q_pos)) + simd::iota<T>();
    return fma(Pack::broadcast(T((*slopes_)[static_cast<std::size_t>(first.head)])), distances, x);
  }

 private:
  std::shared_ptr<const std::vector<float>> slopes_;  // shared, so that a copy allocates nothing
};

/// T5's bias: a learned number per head and bucket of k_pos - q_pos; buckets are single distances
/// first, then logarithmic up to max_distance (Raffel et al. 2020, arXiv 1910.10683).
struct RelativeBias {
  static constexpr bool is_shift = true;

  Borrowed<const float> table;  ///< [num_buckets, num_heads], as in Hugging Face checkpoints
  Index num_buckets = 32;
  Index num_heads = 0;
  bool bidirectional = true;  ///< half of the buckets for keys after the query (encoders)
  Index max_distance = 128;

  GQA_TAG void check(const AttentionShape& s) const {
    require(num_heads == s.num_heads, "RelativeBias is for num_heads ", num_heads, ", not ",
            s.num_heads);
    require(detail::is_product(std::ssize(table), num_heads, num_buckets), "RelativeBias has ",
            std::ssize(table), " numbers for [num_buckets, num_heads] = [", num_buckets, ", ",
            num_heads, "]");
    const Index exact = num_buckets / (bidirectional ? 4 : 2);
    require(exact >= 1 && max_distance > exact, "RelativeBias: max_distance ", max_distance,
            " must exceed the ", exact, " exact buckets, of which there must be one");
  }
  GQA_TAG Index bucket_of(Index distance) const {  // k_pos - q_pos
    const Index buckets = bidirectional ? num_buckets / 2 : num_buckets;
    const Index first = bidirectional && distance > 0 ? buckets : 0;
    const Index n = bidirectional ? (std::abs)(distance) : std::max<Index>(-distance, 0);
    const Index exact = buckets / 2;
    if (n < exact) return first + n;
    const float position = std::log(static_cast<float>(n) / static_cast<float>(exact)) /
                           std::log(static_cast<float>(max_distance) / static_cast<float>(exact)) *
                           static_cast<float>(buckets - exact);
    return first + (std::min)(exact + static_cast<Index>(position), buckets - 1);
  }
  template <typename T>
  GQA_TAG T score(T x, const Where& w) const {
    const Index i = bucket_of(w.k_pos - w.q_pos) * num_heads + w.head;
    return x + T(table[static_cast<std::size_t>(i)]);
  }
};

/// Adds a number per query and key. -inf hides the key (it is a mask, too), and so does a bias
/// shorter than the keys for those after it (as ONNX pads it). The lowest finite number hides
/// nothing: a row that has no other sees all keys alike. Two of them added are -inf.
template <typename T>
struct AdditiveBias {
  static constexpr bool per_head = true;
  static constexpr bool is_shift = true;

  DenseView<T> values;

  GQA_TAG void check(const AttentionShape& s) const { values.check(s, "AdditiveBias"); }
  GQA_TAG bool differs_by_head() const { return values.differs_by_head(); }
  GQA_TAG bool visible(const Where& w) const {
    return w.k_index < values.shape().kv_len &&
           finite_or_nan(values.row(w.batch, w.head, w.q_index)[w.k_index]);
  }
  GQA_TAG Coverage tile(const Tile& t) const {
    return detail::dense_coverage(values, t, [](T x) { return finite_or_nan(x); });
  }
  template <typename Real>
  GQA_TAG Real score(Real x, const Where& w) const {
    if (w.k_index >= values.shape().kv_len) return -std::numeric_limits<Real>::infinity();
    return x + static_cast<Real>(values.row(w.batch, w.head, w.q_index)[w.k_index]);
  }

 private:
  GQA_TAG static bool finite_or_nan(T x) { return !(x == -std::numeric_limits<T>::infinity()); }
};
template <typename Tensor>
AdditiveBias(const Tensor&) -> AdditiveBias<std::remove_const_t<detail::ElementOf<Tensor>>>;
template <typename T>
AdditiveBias(DenseView<T>) -> AdditiveBias<T>;

/// A learned logit per query head which takes part in the softmax and stands for no key (gpt-oss).
/// It is not scaled. Of several partial results that are merged, give it to exactly one.
struct SinkLogits {
  Borrowed<const float> logits;  ///< [num_heads]

  GQA_TAG void check(const AttentionShape& s) const {
    require(std::ssize(logits) == s.num_heads, "SinkLogits has ", std::ssize(logits),
            " logits for num_heads ", s.num_heads);
  }
  GQA_TAG float sink(Index head) const { return logits[static_cast<std::size_t>(head)]; }
};

/// Stands for the derivative that a ScoreFunction doesn't have.
struct NoDerivative {};

/// A score rule of your own: function(x, where) for float and double x; for attend_backward() also
/// its derivative in x, derivative_function(x, where).
template <typename F, typename Derivative = NoDerivative>
struct ScoreFunction {
  F function;
  Derivative derivative_function = {};

  template <typename T>
  GQA_TAG T score(T x, const Where& w) const {
    return static_cast<T>(function(x, w));
  }
  template <typename T>
    requires(!std::same_as<Derivative, NoDerivative>)
  GQA_TAG T derivative(T x, const Where& w) const {
    return static_cast<T>(derivative_function(x, w));
  }
};
template <typename F>
GQA_TAG ScoreFunction<F> score_function(F function) {
  return {std::move(function)};
}
template <typename F, typename Derivative>
GQA_TAG ScoreFunction<F, Derivative> score_function(F function, Derivative derivative) {
  return {std::move(function), std::move(derivative)};
}

}  // namespace gqa
