// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// One call of attend_backward() or reference_backward(): what the forward pass was given, the
// gradients that come in and the places for those that go out, checked against one another.
#pragma once

#include "gqa/kernel/call.hpp"

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

/// What the forward pass was (its out is only read), and the gradients.
template <typename ForwardCall, Scalar DOut, Scalar DQuery, Scalar DKey, Scalar DValue>
struct BackwardCall : ForwardCall {
  using T = typename ForwardCall::T;
  static_assert(std::same_as<AccumulatorOf<DOut>, T> && std::same_as<AccumulatorOf<DQuery>, T> &&
                    std::same_as<AccumulatorOf<DKey>, T> && std::same_as<AccumulatorOf<DValue>, T>,
                "gqa: gradients are double if the queries are, and only then");

  TensorView<const DOut> dout;  // [batch, q_len, num_heads, value_dim]
  TensorView<DQuery> dq;        // [batch, q_len, num_heads, head_dim]
  TensorView<DKey> dk;          // [batch, kv_len, num_kv_heads, head_dim]
  TensorView<DValue> dv;        // [batch, kv_len, num_kv_heads, value_dim]
  const BackwardOptions<T>& backward;

  /// The same call with dout in the place of q: rows of dout are packed as rows of q.
  GQA_TAG Call<DOut, typename decltype(ForwardCall::out)::Value, typename ForwardCall::Source,
               typename ForwardCall::Rules>
  with_dout_as_queries() const {
    return {dout, this->source, this->out, this->rules, this->options, this->shape};
  }
};

template <typename T, typename... Parts>
GQA_TAG void check_rule_gradients(const char* who, const Rules<Parts...>& rules,
                                  const AttentionShape& shape, const BackwardOptions<T>& options) {
  using All = Rules<Parts...>;
  const auto sinks = std::ssize(options.sink_gradient);
  require(sinks == 0 || All::has_sinks, who,
          ": the rules have no SinkLogits that sink_gradient could be of");
  require(sinks == 0 || sinks == shape.num_heads, who, ": sink_gradient has ", sinks,
          " numbers for num_heads ", shape.num_heads);
  const DenseGradient<T>& bias = options.bias_gradient;
  const auto table = std::ssize(options.relative_bias_gradient);
  require(!bias || All::num_additive_biases == 1, who,
          ": bias_gradient is of one AdditiveBias, the rules have ", All::num_additive_biases);
  require(table == 0 || All::num_relative_biases == 1, who,
          ": relative_bias_gradient is of one RelativeBias, the rules have ",
          All::num_relative_biases);
  constexpr int biases = All::num_additive_biases + All::num_relative_biases;
  require((!bias && table == 0) || biases == 1, who,
          ": gradients of biases are of rules with one of them, these have ", biases);
  const auto check_bias = [&]<typename P>(const P& part) {
    if constexpr (is_additive_bias<P>) {
      if (!bias) return;
      const auto& have = bias.shape();
      const auto& want = part.values.shape();
      require(have.batch == want.batch && have.num_heads == want.num_heads &&
                  have.q_len == want.q_len && have.kv_len == want.kv_len,
              who, ": bias_gradient is [", have.batch, ", ", have.num_heads, ", ", have.q_len, ", ",
              have.kv_len, "], the bias [", want.batch, ", ", want.num_heads, ", ", want.q_len,
              ", ", want.kv_len, "]");
    }
    if constexpr (is_relative_bias<P>) {
      require(table == 0 || table == std::ssize(part.table), who, ": relative_bias_gradient has ",
              table, " numbers, the table ", std::ssize(part.table));
    }
  };
  std::apply([&](const auto&... part) { (check_bias(part), ...); }, rules.parts());
}

/// Completes a checked forward call. Throws std::invalid_argument, prefixed with the caller's name.
template <typename ForwardCall, Scalar DOut, Scalar DQuery, Scalar DKey, Scalar DValue>
GQA_TAG auto make_backward_call(const char* who, const ForwardCall& call,
                                TensorView<const DOut> dout, TensorView<DQuery> dq,
                                TensorView<DKey> dk, TensorView<DValue> dv,
                                const BackwardOptions<typename ForwardCall::T>& options) {
  static_assert(
      ForwardCall::Rules::is_differentiable,
      "gqa::attend_backward: a score rule has no derivative. Give it derivative(x, where) "
      "for float and double x, or `static constexpr bool is_shift = true` if it only adds "
      "to x; a function of your own is score_function(function, derivative)");
  const AttentionShape& s = call.shape;
  const auto expect = [who](const char* name, const TensorShape& is, const TensorShape& expected) {
    require(is == expected, who, ": ", name, " is ", is, ", expected ", expected);
  };
  expect("dout", dout.shape(), {s.batch, s.q_len, s.num_heads, s.value_dim});
  expect("dq", dq.shape(), {s.batch, s.q_len, s.num_heads, s.head_dim});
  for (const auto& [name, shape, dim] :
       {std::tuple("dk", dk.shape(), s.head_dim), std::tuple("dv", dv.shape(), s.value_dim)}) {
    // After the longest sequence there may be room in the keys, and then in their gradients.
    require(shape.tokens >= s.kv_len, who, ": ", name, " is ", shape, " for ", s.kv_len, " keys");
    expect(name, shape, {s.batch, dk.tokens(), s.num_kv_heads, dim});
  }
  check_rule_gradients(who, call.rules, s, options);
  return BackwardCall<ForwardCall, DOut, DQuery, DKey, DValue>{call, dout, dq, dk, dv, options};
}

}  // namespace detail
}  // namespace gqa
