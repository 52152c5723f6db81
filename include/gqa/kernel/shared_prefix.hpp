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
#include "gqa/kernel/prefix_tree.hpp"

namespace gqa {
namespace detail {
inline namespace GQA_ISA {

/// Attention of all rows, node by node from the root: of each row, a state and an output that go on
/// from the node before. What sequences share comes first, depth by depth, and then what each has
/// for itself: only that writes results, so that until the last run nothing has been written.
template <typename Storage>
class SharedPrefixRun {
 public:
  using T = AccumulatorOf<Storage>;

  explicit SharedPrefixRun(const AttentionCall& call, const RulesView& rules, Workspace& workspace)
      : call_(call), rules_(rules), layout_(call.shape.head_dim, call.shape.value_dim) {
    const Index concurrency = call.executor.concurrency();
    Index queries = 0, longest = 0, parts = 0, most_splits = 1;
    for (Index b = 0; b < call.shape.batch; ++b) {
      Index splits = 0;  // that somebody sees and that may be tasks
      if (concurrency > 1) for_each_split(call, rules, b, [&](Index) { ++splits; });
      queries += call.q_len(b);
      longest = (std::max)(longest, splits);
      most_splits = (std::max)(most_splits, ceil_div(call.source.length(b), split_keys));
      parts += call.q_len(b) * call.shape.num_heads * splits;
    }
    rows_ = queries * call.shape.num_heads;
    // Tasks of any one run, where their splits are none: the rows of the nodes are all rows.
    const Index most_tasks =
        (ceil_div(queries * call.shape.group(), max_block_rows) + call.shape.batch) *
        call.shape.num_kv_heads;
    few_tasks_ = concurrency > most_tasks / 4 ? most_tasks + 1 : 4 * concurrency;
    // No more than what attend() would take where splits are tasks.
    part_rows_ = (std::min)(parts, few_tasks_ * max_block_rows * longest);
    plan_.scratch_slots = ScratchSlots::of(concurrency, most_tasks * most_splits);
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
    const PrefixTree tree(call_.source, layout_.block_bytes(), order_, nodes_);
    if (!tree.shares()) return false;
    first_query_[0] = 0;
    for (Index place = 0; place < call_.shape.batch; ++place) {
      first_query_[place + 1] = first_query_[place] + call_.q_len(tree.sequence(place));
    }
    std::fill_n(states_, rows_, RowState<T>{});
    std::fill_n(out_, rows_ * layout_.padded_value_dim(), T(0));
    for (Index begin = 0, end = 0; begin < tree.size(); begin = end) {  // nodes of one depth
      end = begin + 1;
      while (end < tree.size() && tree[end].depth == tree[begin].depth) ++end;
      run_nodes(tree, begin, end, false);
    }
    run_nodes(tree, 0, tree.size(), true);
    return true;
  }

 private:
  /// Rows [row, row + 96) of those of a node that read a KV head.
  struct NodeTask {
    Index node;
    Index kv_head;
    Index row;
  };

  /// The leaves, or the others, of nodes [begin, end), which don't wait for one another.
  void run_nodes(const PrefixTree& tree, Index begin, Index end, bool leaves) {
    first_task_[begin] = first_part_[begin] = 0;
    Index splits = 0;  // of the node that has most
    for (Index i = begin; i < end; ++i) {
      const PrefixNode& node = tree[i];
      const bool runs = node.is_leaf() == leaves && (leaves || node.splits() > 0);
      const Index node_rows = runs ? rows(node) : 0;
      first_task_[i + 1] =
          first_task_[i] + ceil_div(node_rows, max_block_rows) * call_.shape.num_kv_heads;
      first_part_[i + 1] = first_part_[i] + node_rows * call_.shape.num_kv_heads * node.splits();
      if (runs) splits = (std::max)(splits, node.splits());
    }
    const Index count = first_task_[end];
    const auto task_of = [&](Index number) {
      const Index* next = std::upper_bound(first_task_ + begin, first_task_ + end + 1, number);
      number -= *(next - 1);
      return NodeTask{.node = next - first_task_ - 1,
                      .kv_head = number % call_.shape.num_kv_heads,
                      .row = number / call_.shape.num_kv_heads * max_block_rows};
    };
    // Where there are too few rows to go round, each split is a task (as in make_plan()); but not
    // where most are hidden, and would be asked for in vain.
    const bool split_kv = splits > 1 && count < few_tasks_ && first_part_[end] <= part_rows_;
    if (split_kv) {
      run_tasks(call_.executor, count * splits, [&](Index number, Index worker) {
        attend_split(tree, task_of(number % count), number / count,
                     plan_.scratch_slots(number, worker));
      });
    }
    run_tasks(call_.executor, count, [&](Index number, Index worker) {
      attend_all(tree, task_of(number), split_kv, plan_.scratch_slots(number, worker));
    });
  }
  void carve(Carver& carver) {
    const Index batch = call_.shape.batch, dim = layout_.padded_value_dim();
    order_ = carver.take<Index>(batch);
    nodes_ = carver.take<PrefixNode>(2 * batch);
    first_query_ = carver.take<Index>(batch + 1);
    first_task_ = carver.take<Index>(2 * batch + 1);
    first_part_ = carver.take<Index>(2 * batch + 1);
    states_ = carver.take<RowState<T>>(rows_);
    out_ = carver.take<T>(rows_ * dim);
    part_states_ = carver.take<RowState<T>>(part_rows_);
    part_out_ = carver.take<T>(part_rows_ * dim);
  }
  std::size_t worker_bytes() const { return Scratch<Storage>(nullptr, plan_, layout_, 0).bytes; }
  /// Rows of a node that read one KV head.
  Index rows(const PrefixNode& node) const {
    return (first_query_[node.end] - first_query_[node.begin]) * call_.shape.group();
  }
  /// Where the state of a task's first row is.
  Index first_row(const PrefixTree& tree, const NodeTask& task) const {
    return task.kv_head * (rows_ / call_.shape.num_kv_heads) +
           first_query_[tree[task.node].begin] * call_.shape.group() + task.row;
  }
  /// Where it is among the parts, of the node's split number `split`.
  Index first_part(const PrefixTree& tree, const NodeTask& task, Index split) const {
    const Index heads_before = split * call_.shape.num_kv_heads + task.kv_head;
    return first_part_[task.node] + heads_before * rows(tree[task.node]) + task.row;
  }
  /// Where the keys of a node's splits end.
  Index end_of_keys(const PrefixTree& tree, const PrefixNode& node) const {
    return node.is_leaf() ? Index{call_.source.length(tree.sequence(node.begin))}
                          : node.split_end * split_keys;
  }

  /// Calls fn(row block, its worker's scratch): of one sequence's rows, or of the rows of several
  /// whose queries are joined.
  template <typename F>
  void with_block(const PrefixTree& tree, const NodeTask& task, Index worker_index, F fn) const {
    const PrefixNode& node = tree[task.node];
    const Scratch<Storage> scratch(workers_, plan_, layout_, 0);
    const auto worker = scratch.worker(worker_index);
    const JoinedQueries joined{.sequences = order_ + node.begin,
                               .first = first_query_ + node.begin,
                               .count = node.end - node.begin};
    RowBlock<Storage> block(call_, rules_, layout_, worker.rows,
                            {.batch = tree.sequence(node.begin),
                             .kv_head = task.kv_head,
                             .begin = task.row,
                             .count = (std::min)(max_block_rows, rows(node) - task.row),
                             .joined = node.is_leaf() ? nullptr : &joined});
    fn(block, worker);
  }

  /// One split of a node, if it has so many, to its place among the parts.
  void attend_split(const PrefixTree& tree, const NodeTask& task, Index split,
                    Index worker_index) const {
    const PrefixNode& node = tree[task.node];
    if (split >= node.splits()) return;
    const Index begin = (node.split_begin + split) * split_keys;
    const Index end = (std::min)(begin + split_keys, end_of_keys(tree, node));
    with_block(tree, task, worker_index, [&](auto& block, const auto& worker) {
      const Index part = first_part(tree, task, split);
      block.reset(part_states_ + part, part_out_ + part * layout_.padded_value_dim());
      const Coverage seen = block.coverage(begin, end);
      if (seen != Coverage::skip) {
        walk<KvLayout::strips>(call_.source, layout_, block, begin, end, seen, worker.packed);
      }
    });
  }

  /// All splits of a node, or what was made of each, and the result of a sequence.
  void attend_all(const PrefixTree& tree, const NodeTask& task, bool split_kv,
                  Index worker_index) const {
    const PrefixNode& node = tree[task.node];
    const Index first = first_row(tree, task), dim = layout_.padded_value_dim();
    const Index own = node.split_begin * split_keys, length = end_of_keys(tree, node);
    with_block(tree, task, worker_index, [&](auto& block, const auto& worker) {
      const auto merge_all = [&](const RowState<T>* states, const T* out) {
        for (Index r = 0; r < block.rows(); ++r) {
          merge(states_[first + r], out_ + (first + r) * dim, states[r], out + r * dim, dim);
        }
      };
      if (split_kv) {
        for (Index split = 0; split < node.splits(); ++split) {
          const Index part = first_part(tree, task, split);
          merge_all(part_states_ + part, part_out_ + part * dim);
        }
      } else {
        const auto coverage = [&](Index begin, Index end) {
          if (end <= own || begin >= length) return Coverage::skip;
          return block.coverage((std::max)(begin, own), (std::min)(end, length));
        };
        const std::byte* after = node.is_leaf() ? next_own_keys(tree, task) : nullptr;
        for_each_split(call_.source, block.batch(), coverage, [&](Index split, Coverage seen) {
          const Index begin = split * split_keys;
          block.reset(worker.states, worker.out);
          walk<KvLayout::strips>(call_.source, layout_, block, begin,
                                 (std::min)(length, begin + split_keys), seen, worker.packed,
                                 after);
          merge_all(worker.states, worker.out);
        });
      }
      if (node.is_leaf()) {
        write_rows<KvLayout::strips>(call_, rules_, layout_, block, states_ + first,
                                     out_ + first * dim, worker);
      }
    });
  }

  /// What the task after a leaf's reads first, for prefetching: its next head, or the next
  /// sequence. (A source goes on with its next head's first key.)
  const std::byte* next_own_keys(const PrefixTree& tree, const NodeTask& task) const {
    const bool last_head = task.kv_head + 1 == call_.shape.num_kv_heads;
    const Index node = last_head ? task.node + 1 : task.node;
    if (node == tree.size() || !tree[node].is_leaf()) return nullptr;
    const Index b = tree.sequence(tree[node].begin), begin = tree[node].split_begin * split_keys;
    const std::byte* keys = nullptr;
    if (begin < call_.source.length(b)) {
      call_.source.for_each_run<StripRun>(b, last_head ? 0 : task.kv_head + 1, begin, begin + 1,
                                          [&](const StripRun& run) { keys = run.blocks; });
    }
    return keys;
  }

  const AttentionCall& call_;
  const RulesView& rules_;
  StripLayout<Storage> layout_;
  AttendPlan plan_;
  Index rows_ = 0;
  Index part_rows_ = 0;
  Index few_tasks_ = 0;       // fewer than these are too few for the workers
  Index* order_;              // [batch], of the tree
  PrefixNode* nodes_;         // [2 batch], of the tree
  Index* first_query_;        // [batch + 1], by place
  Index* first_task_;         // [2 batch + 1], by node, from 0 on for each run
  Index* first_part_;         // the same of parts' rows
  RowState<T>* states_;       // [num_kv_heads][queries by place][group]
  T* out_;                    // the same rows, [padded value_dim] each
  RowState<T>* part_states_;  // [nodes of a run][splits][num_kv_heads][rows of the node]
  T* part_out_;               // the same rows, [padded value_dim] each
  std::byte* workers_;
};

/// Runs a checked call.
template <typename Storage>
void run_shared_prefix(const AttentionCall& call) {
  const RulesView rules = call.rules_view();
  Workspace own;
  if (SharedPrefixRun<Storage>(call, rules, call.scratch(own)).run()) {
    clear_unused_rows<AccumulatorOf<Storage>>(call);
  } else {
    run_call<KvLayout::strips, Storage>(call);
  }
}

}  // namespace GQA_ISA
}  // namespace detail

inline namespace GQA_ISA {

/// attend(), for a batch in which sequences may share memory: the same arguments, result and bits.
/// Of what sequences share, whole splits (512 keys, counted from key 0) are read once for all of
/// them; where there are none it is attend(). Groups within groups are found, too: all begin with
/// one system prompt, and some go on with the same document.
template <typename Query, KvSource Source, typename Out, RulesOrPart RulesT,
          typename ExecutorT = const Serial>
  requires(Source::layout == KvLayout::strips)
void attend_shared_prefix(const Query& q, const Source& kv, Out&& out, const RulesT& rules,
                          const AttendOptions<AccumulatorOf<ScalarOf<const Query>>>& options = {},
                          ExecutorT&& executor = Serial{}) {
  static_assert(Executor<ExecutorT>,
                "gqa::attend_shared_prefix: the last argument must model gqa::Executor");
  const TensorView<const ScalarOf<const Query>> q_view = view(q);
  const auto parts = detail::any_parts(rules);
  auto call = detail::make_call("attend_shared_prefix", q_view, kv, view(out), parts, options,
                                detail::AnyExecutor(executor));
  detail::check_call("attend_shared_prefix", call);
  detail::run_shared_prefix<detail::Native<typename Source::Storage>>(call);
}

}  // namespace GQA_ISA
}  // namespace gqa
