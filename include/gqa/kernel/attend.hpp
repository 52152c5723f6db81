// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The front door: attend() checks a call, plans it and runs it. MHA, GQA and MQA are the same
// kernel; query head h reads KV head h / (num_heads / num_kv_heads).
#pragma once

#include "gqa/kernel/check_call.hpp"
#include "gqa/kernel/decode.hpp"
#include "gqa/kernel/packed_kv.hpp"
#include "gqa/kernel/prefill.hpp"
#include "gqa/kernel/rows_kv.hpp"
#include "gqa/parallel/executor.hpp"

namespace gqa {
namespace detail {
inline namespace GQA_ISA {

/// Gives the rows after each sequence's q_len 0 and lse -inf, as rows that see nothing.
template <typename T>
void clear_unused_rows(const AttentionCall& call) {
  for (Index b = 0; !call.is_packed() && b < call.shape.batch; ++b) {
    for (Index i = call.q_len(b); i < call.shape.q_len; ++i) {
      for (Index h = 0; h < call.shape.num_heads; ++h) {
        zero_row(call.shape.value_dim, call.out.row(b, i, h), call.out.dtype);
        if (call.lse) call.lse_of<T>(b, h, i) = SoftmaxState<T>::empty_max;
      }
    }
  }
}

/// Runs a checked call with plan.scratch_bytes of memory.
template <KvLayout Layout, typename Storage>
void run_planned(const AttentionCall& call, const RulesView& rules, const AttendPlan& plan,
                 std::byte* memory) {
  const StripLayout<Storage> layout(call.shape.head_dim, call.shape.value_dim);
  const Scratch<Storage> scratch(memory, plan, layout, call.shape.batch);
  if (plan.split_kv) {
    attend_splits<Layout>(call, rules, plan, layout, scratch);
  } else {
    attend_row_blocks<Layout>(call, rules, plan, layout, scratch);
  }
  clear_unused_rows<AccumulatorOf<Storage>>(call);
}

/// Runs a checked call over a user's rows, all of them packed into strips first: where several row
/// blocks would each pack them again.
template <typename Storage>
void run_packed(const AttentionCall& call, const RulesView& rules) {
  Workspace own;
  PackedKv<Storage> packed(call.source);
  AttentionCall packed_call = call;
  packed_call.source = packed;
  const AttendPlan plan = make_plan<Storage>(packed_call, rules);
  std::byte* memory = call.scratch(own).reserve(plan.scratch_bytes + packed.bytes());
  packed.fill(memory + plan.scratch_bytes, call.executor);
  run_planned<KvLayout::strips, Storage>(packed_call, rules, plan, memory);
}

/// Plans a checked call and runs it.
template <KvLayout Layout, typename Storage>
void run_call(const AttentionCall& call) {
  const RulesView rules = call.rules_view();
  const AttendPlan plan = make_plan<Storage>(call, rules);
  if constexpr (Layout == KvLayout::rows) {
    if (plan.packs_kv) return run_packed<Storage>(call, rules);
  }
  Workspace own;
  run_planned<Layout, Storage>(call, rules, plan, call.scratch(own).reserve(plan.scratch_bytes));
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
  const TensorView<const ScalarOf<const Query>> q_view = view(q);
  const auto parts = detail::any_parts(rules);
  auto call = detail::make_call("attend", q_view, kv, view(out), parts, options,
                                detail::AnyExecutor(executor));
  detail::check_call("attend", call);
  detail::run_call<Source::layout, detail::Native<typename Source::Storage>>(call);
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
