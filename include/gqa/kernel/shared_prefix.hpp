// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Sequences that begin with the same tokens, as a system prompt, and share the memory of their keys
// and values (PagedKvCache::fork(), start_with()): attention over what they share is one product of
// all their query rows with keys that are read once, merged with each sequence's own part
// (Hydragen: Juravsky et al. 2024, arXiv 2402.05099). Splits are anchored at key 0 and a row's bits
// don't depend on its company, so that the result has the bits of attend().
#pragma once

#include "gqa/kernel/attend.hpp"
#include "gqa/kernel/joined_call.hpp"
#include "gqa/kernel/prefix_tree.hpp"

namespace gqa {
namespace detail {
inline namespace GQA_ISA {

/// Attention of all rows, node by node from the root: of each row, a state and an output that go on
/// from the node before.
template <typename Call, typename ExecutorT>
class SharedPrefixRun {
 public:
  using T = typename Call::T;
  using Joined = JoinedCall<Call>;

  SharedPrefixRun(const Call& call, Workspace& workspace, ExecutorT& executor)
      : call_(call),
        executor_(executor),
        layout_(call.shape.head_dim, call.shape.value_dim),
        plan_{.workers = executor.concurrency()} {
    Index queries = 0;
    for (Index b = 0; b < call.shape.batch; ++b) queries += call.q_len(b);
    rows_ = queries * call.shape.num_heads;
    plan_.block_rows = std::clamp(queries * call.shape.group(), Index{1}, max_block_rows);
    Carver size;
    carve(size);
    std::byte* memory = workspace.reserve(size.bytes() + worker_bytes());
    Carver carver(memory);
    carve(carver);
    workers_ = memory + carver.bytes();
  }

  /// False if nothing is shared; nothing has been done then.
  bool run() {
    const PrefixTree tree(call_.source, order_, nodes_);
    if (!tree.shares()) return false;
    first_query_[0] = 0;
    for (Index place = 0; place < call_.shape.batch; ++place) {
      first_query_[place + 1] = first_query_[place] + call_.q_len(tree.sequence(place));
    }
    std::fill_n(states_, rows_, SoftmaxState<T>{});
    std::fill_n(out_, rows_ * layout_.padded_value_dim(), T(0));
    for (Index begin = 0, end = 0; begin < tree.size(); begin = end) {  // nodes of one depth
      first_task_[begin] = 0;
      for (end = begin; end < tree.size() && tree[end].depth == tree[begin].depth; ++end) {
        first_task_[end + 1] = first_task_[end] + tasks(tree[end]);
      }
      executor_.run(first_task_[end], [&](Index task, Index worker) noexcept {
        const Index* next = std::upper_bound(first_task_ + begin, first_task_ + end + 1, task);
        const PrefixNode& node = tree[next - first_task_ - 1];
        const Index number = task - *(next - 1);
        const Index kv_head = number % call_.shape.num_kv_heads;
        const Index row = number / call_.shape.num_kv_heads * max_block_rows;
        if (node.is_leaf()) {
          finish(tree, next - first_task_ - 1, kv_head, row, worker);
        } else {
          share(node, tree.sequence(node.begin), kv_head, row, worker);
        }
      });
    }
    return true;
  }

 private:
  void carve(Carver& carver) {
    const Index batch = call_.shape.batch;
    order_ = carver.take<Index>(batch);
    nodes_ = carver.take<PrefixNode>(2 * batch);
    first_query_ = carver.take<Index>(batch + 1);
    first_task_ = carver.take<Index>(2 * batch + 1);
    states_ = carver.take<SoftmaxState<T>>(rows_);
    out_ = carver.take<T>(rows_ * layout_.padded_value_dim());
  }
  /// Of one kind of task at a time.
  std::size_t worker_bytes() const {
    return std::max(Scratch<Call>(nullptr, plan_, layout_, 0).bytes,
                    Scratch<Joined>(nullptr, plan_, layout_, 0).bytes);
  }
  /// Rows of a node that read one KV head.
  Index rows(const PrefixNode& node) const {
    return (first_query_[node.end] - first_query_[node.begin]) * call_.shape.group();
  }
  Index tasks(const PrefixNode& node) const {
    if (!node.is_leaf() && node.split_begin == node.split_end) return 0;
    return ceil_div(rows(node), max_block_rows) * call_.shape.num_kv_heads;
  }
  /// Where the state of a node's first row is.
  Index first_row(const PrefixNode& node, Index kv_head) const {
    return kv_head * (rows_ / call_.shape.num_kv_heads) +
           first_query_[node.begin] * call_.shape.group();
  }
  template <typename Block, typename Worker>
  void attend_split(Block& block, Index first, Index split, Index length, const Worker& worker,
                    const std::byte* after = nullptr) {
    const Index begin = split * split_keys, dim = layout_.padded_value_dim();
    block.reset(worker.states, worker.out);
    walk(call_.source, layout_, block, begin, std::min(length, begin + split_keys), worker.packed,
         after);
    for (Index r = 0; r < block.rows(); ++r) {
      merge(states_[first + r], out_ + (first + r) * dim, worker.states[r], worker.out + r * dim,
            dim);
    }
  }

  /// The splits that several sequences share, for rows [row, row + 96) of their joined queries.
  void share(const PrefixNode& node, Index sequence, Index kv_head, Index row, Index worker_index) {
    const Scratch<Joined> scratch(workers_, plan_, layout_, 0);
    const auto worker = scratch.worker(worker_index);
    const Joined joined(call_, {.sequences = order_ + node.begin,
                                .first = first_query_ + node.begin,
                                .count = node.end - node.begin});
    RowBlockOf<Joined> block(joined, layout_, worker.rows, sequence, kv_head, row,
                             std::min(max_block_rows, rows(node) - row));
    const Index first = first_row(node, kv_head) + row;
    for (Index split = node.split_begin; split < node.split_end; ++split) {
      const Index end = (split + 1) * split_keys;
      if (block.skips(split * split_keys, end)) continue;
      attend_split(block, first, split, end, worker);
    }
  }

  /// Where a sequence's own keys begin, for prefetching; null if there are none.
  const std::byte* own_keys(const PrefixTree<typename Call::Source>& tree, Index node,
                            Index kv_head) const {
    if (node == tree.size() || !tree[node].is_leaf()) return nullptr;
    const Index b = tree.sequence(tree[node].begin), begin = tree[node].split_begin * split_keys;
    const std::byte* keys = nullptr;
    if (begin < call_.source.length(b)) {
      call_.source.for_each_run(b, kv_head, begin, begin + 1,
                                [&](const StripRun& run) { keys = run.blocks; });
    }
    return keys;
  }

  /// A sequence's own splits, and its result.
  void finish(const PrefixTree<typename Call::Source>& tree, Index leaf, Index kv_head, Index row,
              Index worker_index) {
    const PrefixNode& node = tree[leaf];
    const Index b = tree.sequence(node.begin);
    const Scratch<Call> scratch(workers_, plan_, layout_, 0);
    const auto worker = scratch.worker(worker_index);
    RowBlockOf<Call> block(call_, layout_, worker.rows, b, kv_head, row,
                           std::min(max_block_rows, rows(node) - row));
    const Index first = first_row(node, kv_head) + row;
    const Index own = node.split_begin * split_keys;
    // What the task behind this one reads. (A source goes on with its next head's first key.)
    const bool last_head = kv_head + 1 == call_.shape.num_kv_heads;
    const std::byte* after =
        last_head ? own_keys(tree, leaf + 1, 0) : own_keys(tree, leaf, kv_head + 1);
    const auto skips = [&](Index begin, Index end) {
      return end <= own || block.skips(std::max(begin, own), end);
    };
    for_each_split(call_.source, b, skips, [&](Index split) {
      attend_split(block, first, split, call_.source.length(b), worker, after);
    });
    write_rows(call_, block, states_ + first, out_ + first * layout_.padded_value_dim(),
               layout_.padded_value_dim());
  }

  const Call& call_;
  ExecutorT& executor_;
  StripLayout<typename Call::Storage> layout_;
  AttendPlan plan_;
  Index rows_ = 0;
  Index* order_;             // [batch], of the tree
  PrefixNode* nodes_;        // [2 batch], of the tree
  Index* first_query_;       // [batch + 1], by place
  Index* first_task_;        // [2 batch + 1], by node, from 0 on for each depth
  SoftmaxState<T>* states_;  // [num_kv_heads][queries by place][group]
  T* out_;                   // the same rows, [padded value_dim] each
  std::byte* workers_;
};

}  // namespace GQA_ISA
}  // namespace detail

inline namespace GQA_ISA {

/// attend(), for a batch in which sequences may share memory: the same arguments, result and bits.
/// Of what sequences share, whole splits (512 keys, counted from key 0) are read once for all of
/// them; where there are none it is attend(). Groups within groups are found, too: all begin with
/// one system prompt, and some go on with the same document.
///
/// Workers share the work by sequence groups, KV heads and rows, not by keys: a single group with
/// one KV head and few rows keeps one of them busy.
template <typename Query, KvSource Source, typename Out, RulesOrPart RulesT,
          typename ExecutorT = const Serial>
  requires(Source::layout == KvLayout::strips)
void attend_shared_prefix(const Query& q, const Source& kv, Out&& out, const RulesT& rules,
                          const AttendOptions<AccumulatorOf<ScalarOf<const Query>>>& options = {},
                          ExecutorT&& executor = Serial{}) {
  static_assert(Executor<ExecutorT>,
                "gqa::attend_shared_prefix: the last argument must model gqa::Executor");
  const auto& all_rules = as_rules(rules);
  const TensorView<const ScalarOf<const Query>> q_view = view(q);
  const auto call =
      detail::make_call("attend_shared_prefix", q_view, kv, view(out), all_rules, options);
  Workspace own;
  Workspace& workspace = options.workspace ? *options.workspace : own;
  if (detail::SharedPrefixRun(call, workspace, executor).run()) {
    detail::clear_unused_rows(call);
  } else {
    detail::run_call(call, executor);
  }
}

}  // namespace GQA_ISA
}  // namespace gqa
