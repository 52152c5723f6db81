// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// attend_backward(): the gradient of attend(), from what the forward pass left: out and lse. No
// matrix of q_len x kv_len is kept: scores are computed anew, a block at a time. Read
// backward_reference.hpp first, then backward_block.hpp.
#pragma once

#include <algorithm>
#include <cmath>

#include "gqa/kernel/backward_plan.hpp"
#include "gqa/parallel/executor.hpp"

namespace gqa {
namespace detail {
inline namespace GQA_ISA {

/// Σ a b in 8 lanes, so that it vectorises without reordering by the compiler.
template <typename T, Scalar A, Scalar B>
T dot(const A* a, const B* b, Index n) {
  constexpr Index lanes = 8;
  T sums[lanes] = {};
  Index i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (Index lane = 0; lane < lanes; ++lane) {
      sums[lane] += convert<T>(a[i + lane]) * convert<T>(b[i + lane]);
    }
  }
  for (; i < n; ++i) sums[i % lanes] += convert<T>(a[i]) * convert<T>(b[i]);
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

/// delta = Σ_c out dout of each row, the part of dP that the softmax's sum takes off. A task is
/// some tokens with all their heads, which lie side by side.
template <typename Call, typename ExecutorT>
void find_deltas(const Call& call, typename Call::T* delta, ExecutorT& executor) {
  using T = typename Call::T;
  const AttentionShape& s = call.shape;
  constexpr Index tokens = 16;
  const Index blocks = ceil_div(s.q_len, tokens);
  run_tasks(executor, s.batch * blocks, [&](Index task, Index) {
    const Index b = task / blocks, begin = task % blocks * tokens;
    for (Index i = begin; i < (std::min)(begin + tokens, call.q_len(b)); ++i) {
      for (Index h = 0; h < s.num_heads; ++h) {
        delta[(b * s.num_heads + h) * s.q_len + i] =
            dot<T>(call.out.row(b, i, h), call.dout.row(b, i, h), s.value_dim);
      }
    }
  });
}

/// Zeros for the gradients of biases, which tasks add to.
template <typename Call, typename ExecutorT>
void clear_bias_gradients(const Call& call, ExecutorT& executor) {
  using T = typename Call::T;
  const auto& bias = call.backward.bias_gradient;
  const std::span<T> table = call.backward.relative_bias_gradient;
  constexpr Index numbers = 1 << 16;  // of a task
  const Index size = bias ? bias.size() : 0, blocks = ceil_div(size, numbers);
  run_tasks(executor, blocks + !table.empty(), [&](Index task, Index) {
    if (task == blocks) {
      std::fill(table.begin(), table.end(), T(0));
    } else {
      std::fill_n(bias.data() + task * numbers, (std::min)(numbers, size - task * numbers), T(0));
    }
  });
}

/// Zeros for dq after the q_lens, of the query heads that read one KV head.
template <typename Call>
void clear_unused_queries(const Call& call, Index b, Index kv_head) {
  const Index group = call.shape.group();
  for (Index i = call.q_len(b); i < call.shape.q_len; ++i) {
    for (Index h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      auto* dq = call.dq.row(b, i, h);
      std::fill_n(dq, call.shape.head_dim, std::remove_cvref_t<decltype(*dq)>(0));
    }
  }
}

/// The gradient of a sink logit, which has the weight 2^(sink - lse) in every row and no value.
template <typename Call, typename ExecutorT>
void find_sink_gradient(const Call& call, const RowSums<typename Call::T>& sums,
                        ExecutorT& executor) {
  using T = typename Call::T;
  const AttentionShape& s = call.shape;
  run_tasks(executor, s.num_heads, [&](Index h, Index) {
    const T sink = static_cast<T>(call.rules.sink(h));
    T sum = 0;
    for (Index b = 0; b < s.batch; ++b) {
      for (Index i = 0; i < call.q_len(b); ++i) {
        const T lse = call.options.lse(b, h, i);
        const Index row = (b * s.num_heads + h) * s.q_len + i;
        const T delta = sums.delta[row];
        // A row that sees no key adds nothing, whatever its dout. lse is its sink: where that is
        // -inf, (-inf) - (-inf) would be NaN.
        const auto* out = call.out.row(b, i, h);
        const auto is_zero = [](auto x) { return convert<T>(x) == 0; };
        if (lse == SoftmaxState<T>::empty_max ||
            (!std::isfinite(delta) && std::all_of(out, out + s.value_dim, is_zero))) {
          continue;
        }
        const RowSum<T>& own = sums.own[row];
        const T weight = own.is_wanted() ? own.weight(sink) : simd::exp2((sink - lse) * T(log2e));
        sum -= weight * delta;
      }
    }
    call.backward.sink_gradient[static_cast<std::size_t>(h)] = sum;
  });
}

/// One KV head against one chunk of the rows that read it.
template <typename Call>
void run_chunk(const Call& call, const BackwardPlan<Call>& plan, BackwardWorker<Call>& worker,
               const KeyGradients<typename Call::T>& gradients,
               const RowSums<typename Call::T>& sums, Index b, Index kv_head, Index row_begin,
               Index row_end) {
  const Index length = call.source.length(b);
  gradients.zero(plan.layout, ceil_div(length, block_keys));
  worker.packed.clear();
  for (Index row = row_begin; row < row_end; row += max_block_rows) {
    BackwardBlock<Call> rows(call, plan.layout, worker.block, sums, b, kv_head, row,
                             (std::min)(max_block_rows, row_end - row));
    const auto for_each_block = [&](auto fn) {
      for (Index first = 0; first < length; first += block_keys) {
        const Index keys = (std::min)(block_keys, length - first);
        if (rows.skips(first, first + keys)) continue;
        fn(worker.packed.get(call.source, b, kv_head, first / block_keys, keys), first, keys);
      }
    };
    if (rows.needs_sums()) {
      for_each_block([&](const auto& block, Index first, Index keys) {
        rows.add_to_sums(block, first, keys);
      });
    }
    rows.finish_sums();
    for_each_block([&](const auto& block, Index first, Index keys) {
      rows.step(block, first, keys, gradients.dk + first * plan.layout.key_row(),
                gradients.dv + first * plan.layout.value_row());
    });
    rows.finish();
  }
}

/// Writes keys [begin, filled) of one head's gradients from rows of `row` sums, times `scale`, and
/// zeros up to `end`.
template <typename T, typename To>
void write_key_rows(const TensorView<To>& to, Index b, Index kv_head, Index begin, Index filled,
                    Index end, const T* sums, Index row, T scale) {
  constexpr Index ahead = 4;  // rows are far apart: as in put_tokens()
  for (Index j = begin; j < filled; ++j) {
    if (j + ahead < filled) prefetch_row(to.row(b, j + ahead, kv_head), to.dim());
    To* out = to.row(b, j, kv_head);
    for (Index c = 0; c < to.dim(); ++c) out[c] = convert<To>(sums[j * row + c] * scale);
  }
  for (Index j = filled; j < end; ++j) std::fill_n(to.row(b, j, kv_head), to.dim(), To(0));
}

/// Writes keys [begin, end) of dk and dv: the sums of `parts` chunks, which are added up in the
/// first one's place, in their order. After the sequence's keys, zeros.
template <typename Call, typename GradientsOf>
void write_keys(const Call& call, const BackwardLayout<typename Call::T>& layout, Index b,
                Index kv_head, Index begin, Index end, Index parts, GradientsOf gradients_of) {
  using T = typename Call::T;
  const Index filled = std::clamp(call.source.length(b), begin, end);
  const KeyGradients<T> sums = gradients_of(0);
  for (Index part = 1; part < parts; ++part) {
    const KeyGradients<T> more = gradients_of(part);
    const auto add = [&](T* to, const T* from, Index row) {
      for (Index i = begin * row; i < filled * row; ++i) to[i] += from[i];
    };
    add(sums.dk, more.dk, layout.key_row());
    add(sums.dv, more.dv, layout.value_row());
  }
  const T scale = static_cast<T>(call.rules.scale(call.shape.head_dim));
  write_key_rows(call.dk, b, kv_head, begin, filled, end, sums.dk, layout.key_row(), scale);
  write_key_rows(call.dv, b, kv_head, begin, filled, end, sums.dv, layout.value_row(), T(1));
}

/// Runs fn(batch range, KV head range, chunk range) for parts of a call whose tasks don't add to
/// the same numbers of a bias's gradient, one part after the other. Without such a gradient, or
/// with one that has every dimension of its own, that is a single part. A table of relative biases
/// has only the heads.
template <typename Call, typename F>
void for_each_wave(const Call& call, Index chunks, F fn) {
  struct Range {
    Index begin, end;
  };
  const auto& bias = call.backward.bias_gradient;
  const bool table = !call.backward.relative_bias_gradient.empty();
  const auto shape = bias.shape();
  const auto waves = [&](bool shared, Index n) { return shared ? n : Index{1}; };
  const auto range = [](Index wave, Index count, Index n) {
    return count == 1 ? Range{0, n} : Range{wave, wave + 1};
  };
  const Index batch = call.shape.batch, heads = call.shape.num_kv_heads;
  const Index b_waves = waves(table || (bias && shape.batch == 1), batch);
  const Index h_waves = waves(bias && shape.num_heads == 1, heads);
  // The heads of one token may lie in two chunks.
  const bool shares_chunks = bias && (shape.q_len == 1 || shape.num_heads == 1);
  const Index c_waves = waves(table || shares_chunks, chunks);
  for (Index b = 0; b < b_waves; ++b) {
    for (Index h = 0; h < h_waves; ++h) {
      for (Index c = 0; c < c_waves; ++c) {
        fn(range(b, b_waves, batch), range(h, h_waves, heads), range(c, c_waves, chunks));
      }
    }
  }
}

template <typename Call, typename ExecutorT>
void run_backward(const Call& call, ExecutorT& executor) {
  using T = typename Call::T;
  const BackwardPlan<Call> plan(call, concurrency_of(executor));
  Workspace own;
  Workspace& workspace = call.backward.workspace ? *call.backward.workspace : own;
  std::byte* const memory = workspace.reserve(plan.bytes());
  const RowSums<T> row_sums = plan.row_sums(memory);
  const Index heads = call.shape.num_kv_heads, chunks = plan.chunks();
  const auto sums_of = [&](Index b, Index kv_head, Index chunk) {
    return plan.partial(memory, (b * heads + kv_head) * chunks + chunk);
  };

  find_deltas(call, row_sums.delta, executor);
  // From here on gradients are written.
  CommittedExecutor committed(executor);
  clear_bias_gradients(call, committed);
  for_each_wave(call, chunks, [&](auto batch, auto kv_heads, auto chunk_range) {
    const Index per_head = chunk_range.end - chunk_range.begin;
    const Index per_sequence = (kv_heads.end - kv_heads.begin) * per_head;
    const Index tasks = (batch.end - batch.begin) * per_sequence;
    run_tasks(committed, tasks, [&](Index task, Index worker_index) {
      const Index b = batch.begin + task / per_sequence;
      const Index kv_head = kv_heads.begin + task % per_sequence / per_head;
      // Later chunks first: under a causal mask they are the longest.
      const Index chunk = chunk_range.end - 1 - task % per_head;
      const RowChunks rows(call.rows(b), heads);
      if (chunk >= rows.count()) return;
      if (chunk == 0) clear_unused_queries(call, b, kv_head);
      BackwardWorker<Call> worker = plan.worker(memory, plan.scratch_slots(task, worker_index));
      const auto sums = chunks > 1 ? sums_of(b, kv_head, chunk) : worker.gradients;
      run_chunk(call, plan, worker, sums, row_sums, b, kv_head, rows.begin(chunk),
                rows.begin(chunk + 1));
      if (chunks > 1) return;
      write_keys(call, plan.layout, b, kv_head, 0, call.dk.tokens(), 1,
                 [&](Index) { return sums; });
    });
  });
  if constexpr (Call::Rules::has_sinks) {
    if (!call.backward.sink_gradient.empty()) find_sink_gradient(call, row_sums, committed);
  }
  if (chunks == 1) return;
  const Index blocks = ceil_div(call.dk.tokens(), block_keys);
  run_tasks(committed, call.shape.batch * heads * blocks, [&](Index task, Index) {
    const Index b = task / blocks / heads, kv_head = task / blocks % heads;
    const Index begin = task % blocks * block_keys;
    write_keys(call, plan.layout, b, kv_head, begin,
               (std::min)(begin + block_keys, call.dk.tokens()),
               RowChunks(call.rows(b), heads).count(),
               [&](Index part) { return sums_of(b, kv_head, part); });
  });
}

}  // namespace GQA_ISA
}  // namespace detail

inline namespace GQA_ISA {

/// The gradients of attend(): of a loss whose gradient in out is dout, dq, dk and dv, and what the
/// options ask for. Arguments in the order of FlashAttention's backward; q, keys and values, rules,
/// q_lens and positions as the forward pass was given them, out and lse as it left them.
///
///   dout, out [batch, q_len, num_heads, value_dim]     lse [batch, num_heads, q_len]
///   q, dq     [batch, q_len, num_heads, head_dim]
///   dk [batch, kv_len, num_kv_heads, head_dim], dv [batch, kv_len, num_kv_heads, value_dim]
///
/// Gradients are overwritten, not added to; rows that belong to no query or key become 0, as do
/// those of a query that sees no key. Every group, mask and differentiable score rule. Scratch is
/// linear in q_len and kv_len. Bits don't depend on the executor or on the other sequences of the
/// batch.
///
/// Throws std::invalid_argument for shapes that contradict each other, std::bad_alloc, and what the
/// executor does; the gradients are then as they were. (Once the first are written, the caller does
/// the tasks of a run that the executor fails in.) What a mask or rule of your own throws comes out
/// of here, too, and gradients may then be partly written.
template <typename DOut, typename Query, Scalar Key, typename Out, typename DQuery, typename DKey,
          typename DValue, RulesOrPart RulesT, typename ExecutorT = const Serial>
void attend_backward(
    const DOut& dout, const Query& q, const RowsKv<Key>& kv, const Out& out,
    const LseView<const std::type_identity_t<AccumulatorOf<ScalarOf<const Query>>>>& lse,
    DQuery&& dq, DKey&& dk, DValue&& dv, const RulesT& rules,
    const BackwardOptions<AccumulatorOf<ScalarOf<const Query>>>& options = {},
    ExecutorT&& executor = Serial{}) {
  static_assert(Executor<ExecutorT>,
                "gqa::attend_backward: the last argument must model gqa::Executor");
  using T = AccumulatorOf<ScalarOf<const Query>>;
  using OutScalar = ScalarOf<const Out>;
  const auto& all_rules = as_rules(rules);
  const TensorView<const ScalarOf<const Query>> q_view = view(q);
  const TensorView<const OutScalar> out_view = view(out);
  const TensorView<const ScalarOf<const DOut>> dout_view = view(dout);
  require(lse || q_view.batch() * q_view.tokens() == 0,
          "attend_backward needs the lse of the forward pass");
  // A forward call, which would write out and lse: here they are only read.
  const AttendOptions<T> forward{
      .lse = LseView<T>(const_cast<T*>(lse.data()), lse.batch(), lse.num_heads(), lse.q_len()),
      .q_lens = options.q_lens,
      .positions = options.positions};
  const TensorView<OutScalar> out_read(const_cast<OutScalar*>(out_view.data()), out_view.shape(),
                                       out_view.strides());
  const auto call = detail::make_call("attend_backward", q_view, kv, out_read, all_rules, forward);
  detail::run_backward(detail::make_backward_call("attend_backward", call, dout_view, view(dq),
                                                  view(dk), view(dv), options),
                       executor);
}

/// The same over plain tensors k and v.
template <typename DOut, typename Query, typename Key, typename Value, typename Out,
          typename DQuery, typename DKey, typename DValue, RulesOrPart RulesT,
          typename ExecutorT = const Serial>
void attend_backward(
    const DOut& dout, const Query& q, const Key& k, const Value& v, const Out& out,
    const LseView<const std::type_identity_t<AccumulatorOf<ScalarOf<const Query>>>>& lse,
    DQuery&& dq, DKey&& dk, DValue&& dv, const RulesT& rules,
    const BackwardOptions<AccumulatorOf<ScalarOf<const Query>>>& options = {},
    ExecutorT&& executor = Serial{}) {
  attend_backward(dout, q, rows_kv(k, v), out, lse, dq, dk, dv, rules, options, executor);
}

}  // namespace GQA_ISA
}  // namespace gqa
