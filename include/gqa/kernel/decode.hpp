// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Each split of the keys is a task of its own (Flash-Decoding), so that even one sequence of one KV
// head feeds all workers. A user's rows are read in this order by one worker, too, for several KV
// heads at a time. The splits' states are merged in key order, which gives the bits of prefill.hpp.
#pragma once

#include "gqa/kernel/prefill.hpp"

namespace gqa::detail {
inline namespace GQA_ISA {

/// Walks the row blocks of several KV heads, a tile each, through keys [begin, end) of a user's
/// rows, 64 keys of all heads at a time: a token's heads lie side by side, and memory is then read
/// in whole pages.
template <typename Storage>
void walk_together(const AnySource& source, const StripLayout<Storage>& layout,
                   RowBlock<Storage>* heads, Index count, Index begin, Index end, Storage* packed) {
  const Index length = source.length(heads->batch());
  const auto run_at = [&](const RowBlock<Storage>& rows,
                          Index first) {  // 64 keys, or the last ones
    RowRun<Storage> run;
    source.for_each_run<RowRun<Storage>>(rows.batch(), rows.kv_head(), first,
                                         (std::min)(first + block_keys, length),
                                         [&](const RowRun<Storage>& part) { run = part; });
    return run;
  };
  for (Index first = begin; first < end; first += block_keys) {
    const Index keys = (std::min)(block_keys, end - first);
    for (RowBlock<Storage>* rows = heads; rows < heads + count; ++rows) {
      const Coverage seen = rows->coverage(first, first + keys);
      if (seen == Coverage::skip) continue;
      if (seen == Coverage::full && rows->steps_on_rows(keys)) {
        const RowRun<Storage> run = run_at(*rows, first);
        if (run.count == block_keys) {
          // What will be read next: of rows a page apart, caches don't hold many for long.
          const bool last_head = rows + 1 == heads + count, last = first + block_keys >= length;
          rows->step_on_rows(run, !last_head ? run_at(rows[1], first)
                                  : !last    ? run_at(*heads, first + block_keys)
                                             : run);
          continue;
        }
      }
      pack_block(source, rows->batch(), rows->kv_head(), first, first + keys, layout, packed);
      rows->step(packed, first, keys, seen);
    }
  }
  for (RowBlock<Storage>* rows = heads; rows < heads + count; ++rows) rows->finish();
}

template <KvLayout Layout, typename Storage>
void attend_splits(const AttentionCall& call, const RulesView& rules, const AttendPlan& plan,
                   const StripLayout<Storage>& layout, const Scratch<Storage>& scratch) {
  Index splits = 0, all_rows = 0;
  const auto parts = [&](Index b) {
    return sequence_parts(call, scratch.first_split[b + 1] - scratch.first_split[b], b);
  };
  for (Index b = 0; b < call.shape.batch; ++b) {
    scratch.first_split[b] = splits;
    for_each_split(call, rules, b, [&](Index split) { scratch.splits[splits++] = split; });
    scratch.first_split[b + 1] = splits;
    scratch.first_row[b] = all_rows;
    const SequenceParts n = parts(b);
    all_rows += n.row_blocks * n.splits * call.shape.num_kv_heads * task_rows(call, b);
  }
  const TaskList list(scratch.first_task, call.shape.batch, call.shape.num_kv_heads, parts);
  const Index out_row = layout.padded_value_dim();
  const auto range = [&](const Task& task) {
    const Index begin = task.row_block * max_block_rows;
    return RowRange{.batch = task.batch,
                    .kv_head = task.kv_head,
                    .begin = begin,
                    .count = (std::min)(max_block_rows, call.rows(task.batch) - begin)};
  };

  // Where the states and outputs of a task of sequence b begin.
  const auto first_row = [&](Index number, Index b) {
    return scratch.first_row[b] + (number - scratch.first_task[b]) * task_rows(call, b);
  };
  const auto reset = [&](RowBlock<Storage>& rows, Index number) {
    const Index row = first_row(number, rows.batch());
    rows.reset(scratch.states + row, scratch.out + row * out_row);
  };
  run_tasks(call.executor, plan.tasks / plan.heads_together, [&](Index number, Index worker_index) {
    const Index first = number * plan.heads_together;
    const Index b = list.sequence_of(first);
    Task task = list(first, b, parts(b));
    const auto worker = scratch.worker(plan.scratch_slots(number, worker_index));
    const Index begin = scratch.splits[scratch.first_split[b] + task.split] * split_keys;
    const Index end = (std::min)(call.source.length(b), begin + split_keys);
    if constexpr (Layout == KvLayout::rows) {
      if (plan.block_rows <= max_tile_rows) {
        Carver more(worker.more);
        for (Index i = 0; i < plan.heads_together; ++i, ++task.kv_head) {
          auto own = worker.rows;
          if (i > 0) own = {more, plan.block_rows, layout, worker.rows};
          reset(*std::construct_at(worker.blocks + i, call, rules, layout, own, range(task)),
                first + i);
        }
        walk_together(call.source, layout, worker.blocks, plan.heads_together, begin, end,
                      worker.packed);
        return;
      }
    }
    RowBlock<Storage> rows(call, rules, layout, worker.rows, range(task));
    reset(rows, first);
    const Coverage seen = begin < end ? rows.coverage(begin, end) : Coverage::skip;
    if (seen != Coverage::skip) {
      walk<Layout>(call.source, layout, rows, begin, end, seen, worker.packed);
    }
  });

  // One task per row block, numbered by its first split; the others return at once.
  run_tasks(call.executor, plan.tasks, [&](Index number, Index worker_index) {
    const Index b = list.sequence_of(number);
    const Task task = list(number, b, parts(b));
    if (task.split != 0) return;
    const auto worker = scratch.worker(plan.scratch_slots(number, worker_index));
    RowBlock<Storage> rows(call, rules, layout, worker.rows, range(task));
    const Index total = first_row(number, b);
    const auto out = [&](Index row) { return scratch.out + row * out_row; };
    for (Index split = 1; split < parts(b).splits; ++split) {
      const Index part =
          first_row(list.number({b, task.kv_head, task.row_block, split}, parts(b)), b);
      for (Index r = 0; r < rows.rows(); ++r) {
        merge(scratch.states[total + r], out(total + r), scratch.states[part + r], out(part + r),
              out_row);
      }
    }
    write_rows<Layout>(call, rules, layout, rows, scratch.states + total, out(total), worker);
  });
}

}  // namespace GQA_ISA
}  // namespace gqa::detail
