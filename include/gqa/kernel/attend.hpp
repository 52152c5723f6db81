// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The front door: attend() checks a call, plans it and runs it. MHA, GQA and MQA are the same
// kernel; query head h reads KV head h / (num_heads / num_kv_heads).
#pragma once

#include "gqa/kernel/decode.hpp"
#include "gqa/kernel/packed_kv.hpp"
#include "gqa/kernel/prefill.hpp"
#include "gqa/kernel/rows_kv.hpp"
#include "gqa/parallel/executor.hpp"

namespace gqa {
namespace detail {
inline namespace GQA_ISA {

/// Gives the rows after each sequence's q_len 0 and lse -inf, as rows that see nothing.
template <typename Call>
void clear_unused_rows(const Call& call) {
  for (Index b = 0; !call.is_packed() && b < call.shape.batch; ++b) {
    for (Index i = call.q_len(b); i < call.shape.q_len; ++i) {
      for (Index h = 0; h < call.shape.num_heads; ++h) {
        auto* y = call.out_row(b, i, h);
        std::fill_n(y, call.shape.value_dim, std::remove_cvref_t<decltype(*y)>(0));
        if (call.options.lse) call.lse(b, h, i) = SoftmaxState<typename Call::T>::empty_max;
      }
    }
  }
}

/// Runs a checked call with plan.scratch_bytes of memory.
template <typename Call, typename ExecutorT>
void run_call(const Call& call, const AttendPlan& plan, std::byte* memory, ExecutorT& executor) {
  const StripLayout<typename Call::Storage> layout(call.shape.head_dim, call.shape.value_dim);
  const Scratch<Call> scratch(memory, plan, layout, call.shape.batch);
  if (plan.split_kv) {
    attend_splits(call, plan, layout, scratch, executor);
  } else {
    attend_row_blocks(call, plan, layout, scratch, executor);
  }
  clear_unused_rows(call);
}

/// Plans, finds scratch, packs rows of keys where several row blocks would each pack them again.
template <typename Call, typename ExecutorT>
void run_call(const Call& call, ExecutorT& executor) {
  Workspace own;
  Workspace& workspace = call.options.workspace ? *call.options.workspace : own;
  const Index concurrency = concurrency_of(executor);
  const AttendPlan plan = make_plan(call, concurrency);
  if constexpr (Call::Source::layout == KvLayout::rows) {
    if (plan.packs_kv) {
      using Packed = PackedKv<typename Call::Source>;
      Packed packed(call.source);
      const auto packed_call = call.with_source(packed);
      const AttendPlan packed_plan = make_plan(packed_call, concurrency);
      std::byte* memory = workspace.reserve(packed_plan.scratch_bytes + packed.bytes());
      packed.fill(memory + packed_plan.scratch_bytes, executor);
      return run_call(packed_call, packed_plan, memory, executor);
    }
  }
  run_call(call, plan, workspace.reserve(plan.scratch_bytes), executor);
}

}  // namespace GQA_ISA
}  // namespace detail

inline namespace GQA_ISA {

/// Scaled dot-product attention of queries against a cache or any other KvSource:
/// out = softmax(rules(scale · q kᵀ)) v, each query head reading the KV head of its group (Vaswani
/// et al. 2017, arXiv 1706.03762, eq. 1; Ainslie et al. 2023, arXiv 2305.13245).
///
/// q [batch, q_len, num_heads, head_dim] and out [batch, q_len, num_heads, value_dim] are row-major
/// Eigen tensors, maps, or TensorViews (heads_first() for other layouts); rules are masks and score
/// rules joined by &, NoMask{} for none. Decoding and prefilling are the same call, and the same
/// batch where options.q_starts says which tokens are whose. A query that sees no key gives 0 and
/// lse -inf. Bits don't depend on the executor, on the other sequences of the batch or on how many
/// query tokens are computed together.
///
/// Throws std::invalid_argument for shapes that contradict each other, std::bad_alloc, and what the
/// executor does; out is then as it was. What a mask, rule or source of your own throws comes out
/// of here, too, once all tasks have ended, and out may then be partly written.
template <typename Query, KvSource Source, typename Out, RulesOrPart RulesT,
          typename ExecutorT = const Serial>
void attend(const Query& q, const Source& kv, Out&& out, const RulesT& rules,
            const AttendOptions<AccumulatorOf<ScalarOf<const Query>>>& options = {},
            ExecutorT&& executor = Serial{}) {
  static_assert(Executor<ExecutorT>, "gqa::attend: the last argument must model gqa::Executor");
  const auto& all_rules = as_rules(rules);
  const TensorView<const ScalarOf<const Query>> q_view = view(q);
  detail::run_call(detail::make_call("attend", q_view, kv, view(out), all_rules, options),
                   executor);
}

/// The same over plain tensors: k [batch, kv_len, num_kv_heads, head_dim] and
/// v [batch, kv_len, num_kv_heads, value_dim].
template <typename Query, typename Key, typename Value, typename Out, RulesOrPart RulesT,
          typename ExecutorT = const Serial>
  requires(!KvSource<Key>)
void attend(const Query& q, const Key& k, const Value& v, Out&& out, const RulesT& rules,
            const AttendOptions<AccumulatorOf<ScalarOf<const Query>>>& options = {},
            ExecutorT&& executor = Serial{}) {
  attend(q, rows_kv(k, v), out, rules, options, executor);
}

}  // namespace GQA_ISA
}  // namespace gqa
