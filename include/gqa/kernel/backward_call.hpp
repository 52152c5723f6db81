// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// One call of attend_backward() or reference_backward(): what the forward pass was given, the
// gradients that come in and the places for those that go out, checked against one another.
#pragma once

#include "gqa/kernel/check_call.hpp"

namespace gqa {

/// Where the gradient of a dense bias goes: [batch, num_heads, q_len, kv_len], of which all but
/// kv_len may be 1 as in the AdditiveBias itself. What stands for several is given their sum.
template <typename T>
class DenseGradient {
 public:
  using Shape = typename DenseView<T>::Shape;

  GQA_TAG constexpr DenseGradient() = default;  ///< empty: not wanted
  /// Dense, row-major.
  GQA_TAG DenseGradient(T* data, const Shape& shape) : data_(data), view_(data, shape) {}
  /// Eigen tensors of rank 4, or of rank 2: [q_len, kv_len].
  template <typename Tensor>
    requires detail::EigenTensor<Tensor>
  GQA_TAG DenseGradient(Tensor& tensor)  // NOLINT
      : data_(tensor.data()), view_(tensor) {}

  GQA_TAG explicit operator bool() const { return data_ != nullptr; }
  GQA_TAG const Shape& shape() const { return view_.shape(); }
  GQA_TAG Index size() const {
    return shape().batch * shape().num_heads * shape().q_len * shape().kv_len;
  }
  GQA_TAG T* data() const { return data_; }
  /// The row of one query, kv_len numbers.
  GQA_TAG T* row(Index batch, Index head, Index q_index) const {
    return data_ + (view_.row(batch, head, q_index) - data_);
  }

 private:
  T* data_ = nullptr;
  DenseView<T> view_;
};

/// What a backward pass may add to its tensors and rules. T is float; double for double queries.
/// q_lens and positions are those of the forward pass.
template <typename T>
struct BackwardOptions {
  std::span<const Index> q_lens = {};     ///< [batch], as in AttendOptions
  std::span<const Index> positions = {};  ///< [batch, q_len], as in AttendOptions
  /// Receives the gradient of the rules' AdditiveBias, of its shape.
  DenseGradient<T> bias_gradient = {};
  /// Receives the gradient of the rules' RelativeBias, of its table: [num_buckets, num_heads].
  std::span<T> relative_bias_gradient = {};
  /// Receives the gradient of the rules' SinkLogits, [num_heads].
  std::span<T> sink_gradient = {};
  /// Scratch that calls share. Without one, a call allocates its own.
  Workspace* workspace = nullptr;
};

namespace detail {

/// What the forward pass was (its out is only read), and the gradients. T is what sums are kept in.
template <typename T>
struct BackwardCall : AttentionCall {
  AnyRows<const std::byte> dout;  // [batch, q_len, num_heads, value_dim]
  AnyRows<std::byte> dq;          // [batch, q_len, num_heads, head_dim]
  AnyRows<std::byte> dk;          // [batch, kv_len, num_kv_heads, head_dim]
  AnyRows<std::byte> dv;          // [batch, kv_len, num_kv_heads, value_dim]
  BackwardOptions<T> backward;
};

inline namespace GQA_ISA {

template <typename T>
void check_rule_gradients(const char* who, const RulesView& rules, const AttentionShape& shape,
                          const BackwardOptions<T>& options) {
  const auto sinks = std::ssize(options.sink_gradient);
  require(sinks == 0 || rules.has_sinks(), who,
          ": the rules have no SinkLogits that sink_gradient could be of");
  require(sinks == 0 || sinks == shape.num_heads, who, ": sink_gradient has ", sinks,
          " numbers for num_heads ", shape.num_heads);
  const DenseGradient<T>& bias = options.bias_gradient;
  const auto table = std::ssize(options.relative_bias_gradient);
  const Index additive = rules.count(PartKind::additive_bias),
              relative = rules.count(PartKind::relative_bias);
  require(!bias || additive == 1, who, ": bias_gradient is of one AdditiveBias, the rules have ",
          additive);
  require(table == 0 || relative == 1, who,
          ": relative_bias_gradient is of one RelativeBias, the rules have ", relative);
  require((!bias && table == 0) || additive + relative == 1, who,
          ": gradients of biases are of rules with one of them, these have ", additive + relative);
  if (bias) {
    const auto& [part, f] = *rules.find(PartKind::additive_bias);
    const DenseShape &have = bias.shape(), &want = f->bias_shape(part);
    require(have.batch == want.batch && have.num_heads == want.num_heads &&
                have.q_len == want.q_len && have.kv_len == want.kv_len,
            who, ": bias_gradient is [", have.batch, ", ", have.num_heads, ", ", have.q_len, ", ",
            have.kv_len, "], the bias [", want.batch, ", ", want.num_heads, ", ", want.q_len, ", ",
            want.kv_len, "]");
  }
  if (table > 0) {
    const auto* part = static_cast<const RelativeBias*>(rules.find(PartKind::relative_bias)->part);
    require(table == std::ssize(part->table), who, ": relative_bias_gradient has ", table,
            " numbers, the table ", std::ssize(part->table));
  }
}

/// check_call() for a backward call.
template <typename T>
void check_backward_call(const char* who, BackwardCall<T>& call) {
  check_call(who, call);
  const RulesView rules = call.rules_view();
  require(rules.is_differentiable(), who,
          ": a score rule has no derivative: give it derivative(x, where), or `static constexpr "
          "bool is_shift = true` if it only adds to x");
  const AttentionShape& s = call.shape;
  const auto expect = [who](const char* name, const TensorShape& is, const TensorShape& expected) {
    require(is == expected, who, ": ", name, " is ", is, ", expected ", expected);
  };
  expect("dout", call.dout.shape, {s.batch, s.q_len, s.num_heads, s.value_dim});
  expect("dq", call.dq.shape, {s.batch, s.q_len, s.num_heads, s.head_dim});
  const Index room = call.dk.shape.tokens;  // after the longest sequence there may be more
  const auto expect_keys = [&](const char* name, const TensorShape& shape, Index dim) {
    require(shape.tokens >= s.kv_len, who, ": ", name, " is ", shape, " for ", s.kv_len, " keys");
    expect(name, shape, {s.batch, room, s.num_kv_heads, dim});
  };
  expect_keys("dk", call.dk.shape, s.head_dim);
  expect_keys("dv", call.dv.shape, s.value_dim);
  check_rule_gradients(who, rules, s, call.backward);
}

}  // namespace GQA_ISA

/// Refuses to compile for rules that the gradient can't pass through; a RuleSet is asked when it is
/// used.
template <RulesOrPart RulesT>
GQA_TAG constexpr void require_derivatives() {
  if constexpr (is_rules<RulesT>) {
    static_assert(
        RulesT::is_differentiable,
        "gqa::attend_backward: a score rule has no derivative. Give it derivative(x, where) "
        "for float and double x, or `static constexpr bool is_shift = true` if it only adds "
        "to x; a function of your own is score_function(function, derivative)");
  } else if constexpr (ScoreRule<RulesT>) {
    require_derivatives<Rules<RulesT>>();
  }
}

/// The call that a front door was given: that of the forward pass, and the gradients.
template <typename T, Scalar DOut, Scalar DQuery, Scalar DKey, Scalar DValue>
GQA_TAG BackwardCall<T> make_backward_call(const AttentionCall& forward,
                                           const TensorView<const DOut>& dout,
                                           const TensorView<DQuery>& dq, const TensorView<DKey>& dk,
                                           const TensorView<DValue>& dv,
                                           const BackwardOptions<T>& options) {
  static_assert(std::same_as<AccumulatorOf<DOut>, T> && std::same_as<AccumulatorOf<DQuery>, T> &&
                    std::same_as<AccumulatorOf<DKey>, T> && std::same_as<AccumulatorOf<DValue>, T>,
                "gqa: gradients are double if the queries are, and only then");
  return {forward,
          AnyRows<const std::byte>(dout),
          AnyRows<std::byte>(dq),
          AnyRows<std::byte>(dk),
          AnyRows<std::byte>(dv),
          options};
}

}  // namespace detail
}  // namespace gqa
