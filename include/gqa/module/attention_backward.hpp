// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A pass through an attention layer that is trained, there and back. attention_pass.hpp has the
// pass forward; here it keeps what the way back needs, in an AttentionRecord:
//
//   forward                                backward
//   q, k, v = x wqᵀ, x wkᵀ, x wvᵀ         dx = dq wq + dk wk + dv wv,  dwq += dqᵀ x, …
//   q', k' = rope(norm(q)), rope(norm(k))  dq, dk = through the transposed rotation and the norm
//   heads = softmax(q' k'ᵀ) v              attend_backward
//   y = heads woᵀ                          dheads = dy wo,  dwo += dyᵀ heads
#pragma once

#include "gqa/kernel/backward.hpp"
#include "gqa/module/attention_pass.hpp"
#include "gqa/module/linear_backward.hpp"

namespace gqa {

namespace detail {
/// A dense tensor in a carver's memory; empty while its size is counted.
template <typename T>
GQA_TAG TensorView<T> take_tensor(Carver& carver, const TensorShape& shape) {
  const Index size = shape.batch * shape.tokens * shape.heads * shape.dim;
  T* const data = carver.take<T>(size);
  if (data == nullptr && size > 0) return {};
  return {data, shape};
}
}  // namespace detail

/// What a pass that is trained leaves for the way back: queries, keys and values as attention read
/// them (before the norm, too, where there is one), what it gave, and its lse. The caller owns it;
/// it only grows, so that steps of one shape allocate nothing. One per layer and pass in flight.
template <typename T>
class AttentionRecord {
 public:
  GQA_TAG AttentionRecord() = default;
  GQA_TAG AttentionRecord(AttentionRecord&&) noexcept = default;
  GQA_TAG AttentionRecord& operator=(AttentionRecord&&) noexcept = default;
  GQA_TAG ~AttentionRecord() = default;

  /// Bytes that it holds.
  GQA_TAG std::size_t bytes() const { return buffer_.bytes(); }

  // The views are the module's business.
  TensorView<T> q, k, v;           // rotated: [batch, q_len, heads, head_dim], [batch, kv_len, …]
  TensorView<T> plain_q, plain_k;  // before QK-norm; empty without
  TensorView<T> heads;             // [batch, q_len, num_heads, value_dim]
  LseView<T> lse;                  // [batch, num_heads, q_len]

  /// Room for a pass of `config`. Throws std::bad_alloc.
  GQA_TAG void resize(const MultiHeadAttentionConfig& c, Index batch, Index q_len, Index kv_len) {
    Carver size;
    carve(size, c, batch, q_len, kv_len);
    if (size.bytes() > buffer_.bytes()) buffer_ = AlignedBuffer(size.bytes());
    Carver carver(buffer_.data());
    carve(carver, c, batch, q_len, kv_len);
  }

 private:
  GQA_TAG void carve(Carver& carver, const MultiHeadAttentionConfig& c, Index batch, Index q_len,
                     Index kv_len) {
    const auto take = [&](Index tokens, Index heads_of, Index dim) -> TensorView<T> {
      return detail::take_tensor<T>(carver, {batch, tokens, heads_of, dim});
    };
    q = take(q_len, c.num_heads, c.head_dim);
    k = take(kv_len, c.num_kv_heads, c.head_dim);
    v = take(kv_len, c.num_kv_heads, c.value_dim);
    plain_q = c.qk_norm ? take(q_len, c.num_heads, c.head_dim) : TensorView<T>();
    plain_k = c.qk_norm ? take(kv_len, c.num_kv_heads, c.head_dim) : TensorView<T>();
    heads = take(q_len, c.num_heads, c.value_dim);
    lse = {carver.take<T>(batch * c.num_heads * q_len), batch, c.num_heads, q_len};
  }

  AlignedBuffer buffer_;
};

namespace detail {

/// A dense tensor of heads as rows [batch, tokens, 1, heads * dim].
template <typename T>
GQA_TAG TensorView<T> join_heads(const TensorView<T>& x) {
  return {x.data(), {x.batch(), x.tokens(), 1, x.heads() * x.dim()}};
}
template <typename T>
GQA_TAG TensorView<const T> as_const(const TensorView<T>& x) {
  return x;
}

/// A pass to be trained: queries from x, keys and values from memory (x itself in
/// self-attention).
template <typename T>
struct TrainedPass : AttentionPass<T> {
  TensorView<const T> x;           // [batch, q_len, 1, hidden_size]
  TensorView<const T> memory;      // [batch, kv_len, 1, kv_hidden_size]
  std::span<const Index> kv_lens;  // as q_lens, of the memory
};

inline namespace GQA_ISA {

/// The tokens that sequence b has of x; without lengths all of them.
template <typename T>
TensorView<T> tokens_of(const TensorView<T>& x, Index b, std::span<const Index> lengths) {
  return x.sequence(b).tokens_slice(
      0, lengths.empty() ? x.tokens() : lengths[static_cast<std::size_t>(b)]);
}

/// x wᵀ + b, then the norm and the rotation of its heads. (Rotation knows a sequence's length:
/// dynamic NTK scaling depends on it.)
template <typename T>
void project_heads(const TrainedPass<T>& pass, const TensorView<const T>& x, AttentionWeight weight,
                   AttentionWeight bias, std::optional<AttentionWeight> norm,
                   std::span<const Index> lengths, const TensorView<T>& plain,
                   const TensorView<T>& heads) {
  const AttentionWeights<T>& weights = pass.layer.weights;
  linear(x, weights.rows(weight), weights.bias(bias), join_heads(heads), pass.executor);
  if (!norm) return;  // values
  if (pass.config().qk_norm) {
    std::copy_n(heads.data(), heads.batch() * heads.tokens() * heads.heads() * heads.dim(),
                plain.data());
    normalise(pass.layer, heads, *norm);
  }
  for (Index b = 0; pass.layer.rope && b < heads.batch(); ++b) {
    apply_rope(*pass.layer.rope, tokens_of(heads, b, lengths), RopePositions(0));
  }
}

template <typename T>
void forward_trained(const TrainedPass<T>& pass, AttentionRecord<T>& record,
                     const TensorView<T>& y) {
  using enum AttentionWeight;
  project_heads(pass, pass.x, wq, bq, q_norm, pass.q_lens, record.plain_q, record.q);
  project_heads(pass, pass.memory, wk, bk, k_norm, pass.kv_lens, record.plain_k, record.k);
  project_heads(pass, pass.memory, wv, bv, std::nullopt, pass.kv_lens, {}, record.v);
  const auto rows = rows_kv(record.k, record.v, pass.kv_lens);
  AttentionCall call = attention_call<T>(pass, record.q, rows, record.heads);
  call.lse = record.lse.data();
  run_call<KvLayout::rows, T>(call);
  const AttentionWeights<T>& weights = pass.layer.weights;
  linear(as_const(join_heads(record.heads)), weights.rows(wo), weights.bias(bo), y, pass.executor);
}

/// Turns the gradient of heads as attention read them into that of the projection's output. Rows
/// after the lengths belong to no token, and are left alone.
template <typename T>
void heads_backward(const TrainedPass<T>& pass, const TensorView<T>& gradients,
                    const TensorView<T>& plain, AttentionWeight norm,
                    std::span<const Index> lengths, AttentionWeights<T>& dweights) {
  for (Index b = 0; b < gradients.batch(); ++b) {
    const auto gradient = tokens_of(gradients, b, lengths);
    if (pass.layer.rope) rope_backward(*pass.layer.rope, gradient, RopePositions(0));
    if (!pass.config().qk_norm) continue;
    rms_norm_backward(tokens_of(plain, b, lengths), pass.layer.weights.numbers(norm), gradient,
                      gradient, dweights.numbers(norm), pass.config().qk_norm->eps);
  }
}

/// dx, dmemory (null in self-attention, where dx has both) and the gradients of all weights, which
/// are added to.
template <typename T>
void backward_trained(const TrainedPass<T>& pass, const AttentionRecord<T>& record,
                      const TensorView<const T>& dy, const TensorView<T>& dx,
                      const TensorView<T>* dmemory, AttentionWeights<T>& dweights) {
  using enum AttentionWeight;
  const AttentionWeights<T>& weights = pass.layer.weights;
  const auto carve = [&](Carver& carver) {
    const auto like = [&](const TensorView<T>& x) { return take_tensor<T>(carver, x.shape()); };
    return std::array{like(record.q), like(record.k), like(record.v), like(record.heads)};
  };
  Carver size;
  carve(size);
  Carver carver(pass.workspace.reserve(size.bytes()));
  const auto [dq, dk, dv, dheads] = carve(carver);
  const auto gradient_of = [&](AttentionWeight bias) {
    return dweights.has(bias) ? dweights.numbers(bias).data() : nullptr;
  };

  // y = heads woᵀ + bo
  linear_backward_input(dy, weights.rows(wo), join_heads(dheads), pass.q_lens, false,
                        pass.executor);

  // heads = softmax(q kᵀ) v
  const auto rows = rows_kv(record.k, record.v, pass.kv_lens);
  BackwardCall<T> call = make_backward_call<T>(
      attention_call<T>(pass, record.q, rows, record.heads), as_const(dheads), dq, dk, dv, {});
  call.lse = record.lse.data();
  check_backward_call("attend_backward", call);
  run_backward(call);

  // The gradients that go out, which nothing was added to so far; from here on all of them are.
  const CommittedExecutor committed(pass.executor);
  linear_backward_weight(dy, as_const(join_heads(record.heads)), dweights.rows(wo), gradient_of(bo),
                         pass.q_lens, committed);

  // q = rope(norm(x wqᵀ + bq)), k likewise, v = x wvᵀ + bv
  heads_backward(pass, dq, record.plain_q, q_norm, pass.q_lens, dweights);
  heads_backward(pass, dk, record.plain_k, k_norm, pass.kv_lens, dweights);
  const auto project_back = [&](const TensorView<T>& gradient, const TensorView<const T>& from,
                                const TensorView<T>& to, AttentionWeight weight,
                                AttentionWeight bias, std::span<const Index> lengths, bool add) {
    const auto of_rows = as_const(join_heads(gradient));
    linear_backward_weight(of_rows, from, dweights.rows(weight), gradient_of(bias), lengths,
                           committed);
    linear_backward_input(of_rows, weights.rows(weight), to, lengths, add, committed);
  };
  project_back(dq, pass.x, dx, wq, bq, pass.q_lens, false);
  project_back(dk, pass.memory, dmemory ? *dmemory : dx, wk, bk, pass.kv_lens, !dmemory);
  project_back(dv, pass.memory, dmemory ? *dmemory : dx, wv, bv, pass.kv_lens, true);
}

}  // namespace GQA_ISA
}  // namespace detail
}  // namespace gqa
