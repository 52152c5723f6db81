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
#include "gqa/kernel/rows_kv.hpp"
#include "gqa/parallel/executor.hpp"

namespace gqa {
namespace detail {
inline namespace GQA_ISA {

/// Σ a b in 8 lanes, so that it vectorises without reordering by the compiler.
template <typename T>
struct Dot {
  static constexpr Index lanes = 8;
  T sums[lanes] = {};

  /// n more numbers, a multiple of 8 but for the last ones.
  void add(const T* a, const T* b, Index n) {
    Index i = 0;
    for (; i + lanes <= n; i += lanes) {
      for (Index lane = 0; lane < lanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
    }
    for (; i < n; ++i) sums[i % lanes] += a[i] * b[i];
  }
  T result() const {
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) +
           ((sums[2] + sums[6]) + (sums[3] + sums[7]));
  }
};

/// The same of two rows, some numbers at a time where they aren't T.
template <typename T>
T dot(const std::byte* a, Dtype a_type, const std::byte* b, Dtype b_type, Index n) {
  constexpr Index room = 64;
  T a_room[room], b_room[room];
  Dot<T> dot;
  const Index step = a_type == dtype_of<T> && b_type == dtype_of<T> ? n : room;
  for (Index i = 0; i < n; i += step) {
    const Index count = (std::min)(step, n - i);
    dot.add(read_row(a + i * element_bytes(a_type), a_type, count, a_room),
            read_row(b + i * element_bytes(b_type), b_type, count, b_room), count);
  }
  return dot.result();
}

/// delta = Σ_c out dout of each row, the part of dP that the softmax's sum takes off. A task is
/// some tokens with all their heads, which lie side by side.
template <typename T>
void find_deltas(const BackwardCall<T>& call, T* delta) {
  const AttentionShape& s = call.shape;
  constexpr Index tokens = 16;
  const Index blocks = ceil_div(s.q_len, tokens);
  run_tasks(call.executor, s.batch * blocks, [&](Index task, Index) {
    const Index b = task / blocks, begin = task % blocks * tokens;
    for (Index i = begin; i < (std::min)(begin + tokens, call.q_len(b)); ++i) {
      for (Index h = 0; h < s.num_heads; ++h) {
        delta[(b * s.num_heads + h) * s.q_len + i] =
            dot<T>(call.out.row(b, i, h), call.out.dtype, call.dout.row(b, i, h), call.dout.dtype,
                   s.value_dim);
      }
    }
  });
}

/// Zeros for the gradients of biases, which tasks add to.
template <typename T>
void clear_bias_gradients(const BackwardCall<T>& call, const CommittedExecutor& executor) {
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
template <typename T>
void clear_unused_queries(const BackwardCall<T>& call, Index b, Index kv_head) {
  const Index group = call.shape.group();
  for (Index i = call.q_len(b); i < call.shape.q_len; ++i) {
    for (Index h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      zero_row(call.shape.head_dim, call.dq.row(b, i, h), call.dq.dtype);
    }
  }
}

/// The gradient of a sink logit, which has the weight 2^(sink - lse) in every row and no value.
template <typename T>
void find_sink_gradient(const BackwardCall<T>& call, const RulesView& rules, const RowSums<T>& sums,
                        const CommittedExecutor& executor) {
  const AttentionShape& s = call.shape;
  run_tasks(executor, s.num_heads, [&](Index h, Index) {
    const T sink = static_cast<T>(rules.sink(h));
    T sum = 0;
    for (Index b = 0; b < s.batch; ++b) {
      for (Index i = 0; i < call.q_len(b); ++i) {
        const T lse = call.template lse_of<T>(b, h, i);
        const Index row = (b * s.num_heads + h) * s.q_len + i;
        const T delta = sums.delta[row];
        // A row that sees no key adds nothing, whatever its dout. lse is its sink: where that is
        // -inf, (-inf) - (-inf) would be NaN.
        if (lse == SoftmaxState<T>::empty_max ||
            (!std::isfinite(delta) &&
             is_zero_row<T>(s.value_dim, call.out.row(b, i, h), call.out.dtype))) {
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
template <typename T>
void run_chunk(const BackwardCall<T>& call, const RulesView& rules, const BackwardPlan<T>& plan,
               BackwardWorker<T>& worker, const KeyGradients<T>& gradients, const RowSums<T>& sums,
               Index b, Index kv_head, Index row_begin, Index row_end) {
  const Index length = call.source.length(b);
  gradients.zero(plan.layout, ceil_div(length, block_keys));
  worker.packed.clear();
  for (Index row = row_begin; row < row_end; row += max_block_rows) {
    BackwardBlock<T> rows(call, rules, plan.layout, worker.block, sums,
                          {.batch = b,
                           .kv_head = kv_head,
                           .begin = row,
                           .count = (std::min)(max_block_rows, row_end - row)});
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
template <typename T>
void write_key_rows(const AnyRows<std::byte>& to, Index b, Index kv_head, Index begin, Index filled,
                    Index end, const T* sums, Index row, T scale) {
  constexpr Index ahead = 4;  // rows are far apart: as in put_tokens()
  const Index dim = to.shape.dim;
  for (Index j = begin; j < filled; ++j) {
    if (j + ahead < filled) {
      prefetch_row(to.row(b, j + ahead, kv_head), dim * element_bytes(to.dtype));
    }
    write_row(sums + j * row, scale, dim, to.row(b, j, kv_head), to.dtype);
  }
  for (Index j = filled; j < end; ++j) zero_row(dim, to.row(b, j, kv_head), to.dtype);
}

/// Writes keys [begin, end) of dk and dv: the sums of `parts` chunks, which are added up in the
/// first one's place, in their order. After the sequence's keys, zeros.
template <typename T, typename GradientsOf>
void write_keys(const BackwardCall<T>& call, const RulesView& rules,
                const BackwardLayout<T>& layout, Index b, Index kv_head, Index begin, Index end,
                Index parts, GradientsOf gradients_of) {
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
  const T scale = static_cast<T>(rules.scale(call.shape.head_dim));
  write_key_rows(call.dk, b, kv_head, begin, filled, end, sums.dk, layout.key_row(), scale);
  write_key_rows(call.dv, b, kv_head, begin, filled, end, sums.dv, layout.value_row(), T(1));
}

/// Runs fn(batch range, KV head range, chunk range) for parts of a call whose tasks don't add to
/// the same numbers of a bias's gradient, one part after the other. Without such a gradient, or
/// with one that has every dimension of its own, that is a single part. A table of relative biases
/// has only the heads.
template <typename T, typename F>
void for_each_wave(const BackwardCall<T>& call, Index chunks, F fn) {
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

/// Runs a checked call.
template <typename T>
void run_backward(const BackwardCall<T>& call) {
  const RulesView rules = call.rules_view();
  const BackwardPlan<T> plan(call);
  Workspace own;
  std::byte* const memory = call.scratch(own).reserve(plan.bytes());
  const RowSums<T> row_sums = plan.row_sums(memory);
  const Index heads = call.shape.num_kv_heads, chunks = plan.chunks();
  const auto sums_of = [&](Index b, Index kv_head, Index chunk) {
    return plan.partial(memory, (b * heads + kv_head) * chunks + chunk);
  };

  find_deltas(call, row_sums.delta);
  // From here on gradients are written.
  const CommittedExecutor committed(call.executor);
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
      const RowChunks row_chunks(call.rows(b), heads);
      if (chunk >= row_chunks.count()) return;
      if (chunk == 0) clear_unused_queries(call, b, kv_head);
      BackwardWorker<T> worker = plan.worker(memory, plan.scratch_slots(task, worker_index));
      const auto sums = chunks > 1 ? sums_of(b, kv_head, chunk) : worker.gradients;
      run_chunk(call, rules, plan, worker, sums, row_sums, b, kv_head, row_chunks.begin(chunk),
                row_chunks.begin(chunk + 1));
      if (chunks > 1) return;
      write_keys(call, rules, plan.layout, b, kv_head, 0, call.dk.shape.tokens, 1,
                 [&](Index) { return sums; });
    });
  });
  if (!call.backward.sink_gradient.empty()) find_sink_gradient(call, rules, row_sums, committed);
  if (chunks == 1) return;
  const Index blocks = ceil_div(call.dk.shape.tokens, block_keys);
  run_tasks(committed, call.shape.batch * heads * blocks, [&](Index task, Index) {
    const Index b = task / blocks / heads, kv_head = task / blocks % heads;
    const Index begin = task % blocks * block_keys;
    write_keys(call, rules, plan.layout, b, kv_head, begin,
               (std::min)(begin + block_keys, call.dk.shape.tokens),
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
  detail::require_derivatives<RulesT>();
  const TensorView<const ScalarOf<const Query>> q_view = view(q);
  const TensorView<const OutScalar> out_view = view(out);
  const TensorView<const ScalarOf<const DOut>> dout_view = view(dout);
  require(lse || q_view.batch() * q_view.tokens() == 0,
          "attend_backward needs the lse of the forward pass");
  // A forward call, which would write out and lse: here they are only read.
  const AttendOptions<T> forward{
      .lse = LseView<T>(const_cast<T*>(lse.data()), lse.batch(), lse.num_heads(), lse.q_len()),
      .q_lens = options.q_lens,
      .positions = options.positions,
      .workspace = options.workspace};
  const TensorView<OutScalar> out_read(const_cast<OutScalar*>(out_view.data()), out_view.shape(),
                                       out_view.strides());
  const auto parts = detail::any_parts(rules);
  auto call = detail::make_backward_call<T>(
      detail::make_call("attend_backward", q_view, kv, out_read, parts, forward,
                        detail::AnyExecutor(executor)),
      dout_view, view(dq), view(dk), view(dv), options);
  detail::check_backward_call("attend_backward", call);
  detail::run_backward(call);
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
