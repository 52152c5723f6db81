// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// How a call is cut into tasks, and the scratch that this takes. A plan follows from shapes, what
// the mask hides and the number of workers; results do not depend on it.
#pragma once

#include "gqa/kernel/call.hpp"
#include "gqa/kernel/row_block.hpp"
#include "gqa/kernel/splits.hpp"
#include "gqa/parallel/partition.hpp"
#include "gqa/parallel/tasks.hpp"

namespace gqa {

/// What attend() will do.
struct AttendPlan {
  bool split_kv =
      false;  ///< each split of the keys is a task (decode), or all of them are (prefill)
  bool packs_kv = false;  ///< rows of keys and values are packed into strips beforehand
  Index block_rows = 0;   ///< query rows of the largest row block
  Index tasks = 0;        ///< of the main phase
  Index splits = 0;       ///< that are tasks: those of which a query sees something
  Index split_rows = 0;   ///< rows of all those tasks, each with a state and an output of its own
  Index heads_together = 1;  ///< KV heads of a split that are one task
  detail::ScratchSlots scratch_slots =
      {};  ///< of the workers, or of the tasks where these are fewer
  std::size_t scratch_bytes = 0;
};

namespace detail {
inline namespace GQA_ISA {

/// The parts of one sequence whose keys are split into `splits`.
inline SequenceParts sequence_parts(const AttentionCall& call, Index splits, Index b) {
  return {.row_blocks = ceil_div(call.rows(b), max_block_rows), .splits = splits};
}

/// Rows of a task of sequence b, but for its last row block, which may have fewer.
inline Index task_rows(const AttentionCall& call, Index b) {
  return (std::min)(call.rows(b), max_block_rows);
}

/// The scratch of a call, sized and carved by the same lines.
template <typename Storage>
struct Scratch {
  using T = AccumulatorOf<Storage>;
  using Block = RowBlock<Storage>;

  struct Worker {
    typename Block::Scratch rows;
    Block* blocks;  // [heads_together], not yet constructed
    RowState<T>* states;
    T* out;  // [block_rows][padded value_dim]
    RowState<T>* total_states;
    T* total_out;     // [block_rows][padded value_dim]
    Storage* packed;  // one block, of a source of rows
    std::byte* more;  // scratch of the row blocks of further KV heads
  };

  Scratch(std::byte* base, const AttendPlan& plan, const StripLayout<Storage>& layout, Index batch)
      : carver_(base),
        layout_(layout),
        block_rows_(plan.block_rows),
        heads_together_(plan.heads_together),
        first_task(carver_.take<Index>(batch + 1)),
        first_split(carver_.take<Index>(plan.split_kv ? batch + 1 : 0)),
        splits(carver_.take<Index>(plan.splits)),
        first_row(carver_.take<Index>(plan.split_kv ? batch + 1 : 0)),
        states(carver_.take<RowState<T>>(plan.split_rows)),
        out(carver_.take<T>(plan.split_rows * layout.padded_value_dim())),
        workers_(base ? base + carver_.bytes() : nullptr) {
    Carver one;
    carve_worker(one);
    worker_bytes_ = one.bytes();
    bytes = carver_.bytes() + worker_bytes_ * static_cast<std::size_t>(plan.scratch_slots.count);
  }

  Worker worker(Index i) const {
    Carver carver(workers_ + static_cast<std::size_t>(i) * worker_bytes_);
    return carve_worker(carver);
  }
  Index out_elements() const { return block_rows_ * layout_.padded_value_dim(); }

 private:
  GQA_NOINLINE Worker carve_worker(Carver& carver) const {
    return {.rows = typename Block::Scratch(carver, block_rows_, layout_),
            .blocks = carver.take<Block>(heads_together_),
            .states = carver.take<RowState<T>>(block_rows_),
            .out = carver.take<T>(out_elements()),
            .total_states = carver.take<RowState<T>>(block_rows_),
            .total_out = carver.take<T>(out_elements()),
            .packed = carver.take<Storage>(layout_.block_elements()),
            .more = carver.take<std::byte>(static_cast<Index>(more_bytes()))};
  }
  /// Of the further KV heads' row blocks.
  std::size_t more_bytes() const {
    Carver size;
    const typename Block::Scratch first(size, 0, layout_);
    Carver one;
    for (Index i = 1; i < heads_together_; ++i)
      typename Block::Scratch(one, block_rows_, layout_, first);
    return one.bytes();
  }

  Carver carver_;
  const StripLayout<Storage>& layout_;
  Index block_rows_;
  Index heads_together_;

 public:
  Index* first_task;    // [batch + 1]
  Index* first_split;   // [batch + 1], where splits are tasks: where in `splits` a sequence's begin
  Index* splits;        // [plan.splits], their numbers
  Index* first_row;     // [batch + 1], where in `states` and `out` a sequence's tasks begin
  RowState<T>* states;  // [plan.split_rows]
  T* out;               // [plan.split_rows][padded value_dim]
  std::size_t bytes = 0;

 private:
  std::byte* workers_;
  std::size_t worker_bytes_ = 0;
};

template <typename Storage>
AttendPlan make_plan(const AttentionCall& call, const RulesView& rules) {
  AttendPlan plan;
  const Index concurrency = call.executor.concurrency();
  const bool is_rows = call.source.layout() == KvLayout::rows;
  Index tasks = 0, split_tasks = 0, most_rows = 1;
  for (Index b = 0; b < call.shape.batch; ++b) {
    const SequenceParts parts = sequence_parts(call, 1, b);
    tasks += parts.row_blocks * call.shape.num_kv_heads;
    most_rows = (std::max)(most_rows, call.rows(b));
    plan.packs_kv |= is_rows && parts.row_blocks > 1;
  }
  // Splits become tasks of their own where there are too few row blocks to go round, and where few
  // queries read a user's rows, which several KV heads' row blocks then walk together.
  const bool too_few = concurrency > 1 && tasks / 4 < concurrency;
  const bool few_rows = is_rows && most_rows <= max_tile_rows;
  if (too_few || few_rows) {
    for (Index b = 0; b < call.shape.batch; ++b) {
      Index splits = 0;
      for_each_split(call, rules, b, [&](Index) { ++splits; });
      plan.splits += splits;
      const Index of_sequence =
          sequence_parts(call, 1, b).row_blocks * splits * call.shape.num_kv_heads;
      split_tasks += of_sequence;
      plan.split_rows += of_sequence * task_rows(call, b);
    }
    plan.split_kv = few_rows || split_tasks > tasks;
    if (!plan.split_kv) plan.splits = plan.split_rows = 0;
  }
  if (few_rows) {
    // As many as make up a page of a token's keys, but not so many that workers go without.
    const Index heads = call.shape.num_kv_heads;
    const Index key_bytes = call.shape.head_dim * Index{sizeof(Storage)};
    const Index page = memory_page_bytes / key_bytes;
    const Index fair = concurrency > 1 ? split_tasks / 4 / concurrency : heads;
    plan.heads_together = std::clamp((std::min)(page, fair), Index{1}, heads);
    while (heads % plan.heads_together != 0) --plan.heads_together;
  }
  plan.block_rows = (std::min)(most_rows, max_block_rows);
  plan.tasks = plan.split_kv ? split_tasks : tasks;
  plan.scratch_slots = ScratchSlots::of(concurrency, plan.tasks);
  const StripLayout<Storage> layout(call.shape.head_dim, call.shape.value_dim);
  plan.scratch_bytes = Scratch<Storage>(nullptr, plan, layout, call.shape.batch).bytes;
  return plan;
}

}  // namespace GQA_ISA
}  // namespace detail
}  // namespace gqa
