// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A task is one row block against all of its keys, split by split, the splits' states merged as
// they are made: prefill, and decoding with enough heads and sequences for all workers.
#pragma once

#include "gqa/kernel/plan.hpp"

namespace gqa::detail {
inline namespace GQA_ISA {

/// Walks a row block through keys [begin, end) of one split, block by block; `packed` is room for
/// one block of a source of rows. `after` is what will be read after the last key of the sequence,
/// where that is not what the source says.
template <typename Source, typename Storage, typename Rules>
void walk(const Source& source, const StripLayout<Storage>& layout, RowBlock<Storage, Rules>& rows,
          Index begin, Index end, Storage* packed,
          [[maybe_unused]] const std::byte* after = nullptr) {
  if constexpr (Source::layout == KvLayout::rows) {
    for (Index first = begin; first < end; first += block_keys) {
      const Index keys = (std::min)(block_keys, end - first);
      if (rows.skips(first, first + keys)) continue;
      pack_block(source, rows.batch(), rows.kv_head(), first, first + keys, layout, packed);
      rows.step(packed, first, keys);
    }
  } else {
    GQA_ASSERT(end - begin <= split_keys);
    // Where the split's blocks are, and those that are prefetched from it: a run may be a single
    // block, as a page is, so that what comes next does not lie after it.
    struct Block {
      const std::byte* data;
      Index first;
      Index keys;
    };
    Block blocks[split_keys / block_keys + max_blocks_ahead];
    const Index bytes = layout.block_bytes();
    const Index known_ahead = rows.blocks_ahead();
    const Index length = source.length(rows.batch());
    Index own = 0, known = 0;
    const std::byte* next = nullptr;  // after the known ones
    source.for_each_run(rows.batch(), rows.kv_head(), begin,
                        (std::min)(length, end + known_ahead * block_keys),
                        [&](const StripRun& run) {
                          for (Index i = 0; i < run.count; i += block_keys, ++known) {
                            blocks[known] = {.data = run.blocks + i / block_keys * bytes,
                                             .first = run.first + i,
                                             .keys = (std::min)(block_keys, run.count - i)};
                            own += run.first + i < end;
                          }
                          next = run.next;
                        });
    if (after && end == length) next = after;
    const auto goes_on = [&](Index i) { return blocks[i].data == blocks[i - 1].data + bytes; };
    Index piece_end = 0;  // of the blocks that are one piece of memory
    bool stream = false;
    for (Index i = 0; i < own; ++i) {
      if (rows.may_stream() && i == piece_end) {
        ++piece_end;
        while (piece_end < own && goes_on(piece_end)) ++piece_end;
        const Index piece = piece_end - i;
        stream = piece == own || piece * bytes >= least_stream_bytes;
      }
      const Index later = i + (stream ? 1 : known_ahead);
      const std::byte* data = later < known ? blocks[later].data
                              : next        ? next + (later - known) * bytes
                                            : nullptr;
      rows.step(reinterpret_cast<const Storage*>(blocks[i].data), blocks[i].first,
                (std::min)(blocks[i].keys, end - blocks[i].first),
                reinterpret_cast<const Storage*>(data), stream);
    }
  }
  rows.finish();
}

/// Adds the sink logit to a row's state, divides by the sum, and writes out.
template <typename Call, typename T>
RowState<T> write_out(const Call& call, Index batch, const QueryRow& at, RowState<T> state,
                      const T* out) {
  T numerator = 1;  // what the sink logit leaves of the row's own weights
  if constexpr (Call::Rules::has_sinks) {
    // A state with the weight of one key and no value.
    const RowState<T> sink{
        .max = static_cast<T>(call.rules.sink(at.head)) * RowState<T>::score_factor, .sum = 1};
    const T max = safe_max(sink.max > state.max ? sink.max : state.max);
    const auto weight = [max](T other) { return simd::exp2((other - max) * RowState<T>::unit); };
    numerator = weight(state.max);
    state.sum = simd::fma(numerator, state.sum, weight(sink.max));
    state.max = max;
  }
  auto* y = call.out_row(batch, at.q_index, at.head);
  using Out = std::remove_pointer_t<decltype(y)>;
  // No visible key: the sum is 0 and 0 / 0 is NaN, so out = 0.
  const T factor = state.empty() ? T(0) : numerator / state.sum;
  for (Index c = 0; c < call.shape.value_dim; ++c) y[c] = convert<Out>(out[c] * factor);
  return state;
}

/// Gives two outputs that are to be merged what isn't finite in either. Under a least maximum a
/// split may have only weights of 0, and looks as if it had no key; but it may have seen a NaN.
template <typename T>
void keep_poison(T* a, T* b, Index n) {
  for (Index c = 0; c < n; ++c) {
    const T sum = a[c] + b[c];
    if (!std::isfinite(sum)) a[c] = b[c] = sum;
  }
}

/// Walks a row block through all of its keys, split by split, the states merged as they are made,
/// into `total_states` and `total_out` of the worker.
template <typename Call, typename Worker>
void walk_splits(const Call& call, const StripLayout<typename Call::Storage>& layout,
                 RowBlockOf<Call>& rows, const Worker& worker) {
  const Index out_row = layout.padded_value_dim(), length = call.source.length(rows.batch());
  const auto skips = [&](Index begin, Index end) { return rows.skips(begin, end); };
  bool merges = false;  // the first split's states are the total's
  for_each_split(call.source, rows.batch(), skips, [&](Index split) {
    const Index begin = split * split_keys;
    rows.reset(merges ? worker.states : worker.total_states,
               merges ? worker.out : worker.total_out);
    walk(call.source, layout, rows, begin, (std::min)(length, begin + split_keys), worker.packed);
    for (Index r = 0; merges && r < rows.rows(); ++r) {
      auto* const total = worker.total_out + r * out_row;
      auto* const part = worker.out + r * out_row;
      if (rows.has_least_max()) keep_poison(total, part, out_row);
      merge(worker.total_states[r], total, worker.states[r], part, out_row);
    }
    merges = true;
  });
  if (!merges) rows.reset(worker.total_states, worker.total_out);
}

/// Writes out and lse of a row block, whose states and [rows][padded value_dim] of outputs these
/// are.
///
/// Values near the largest number add up to infinity, though their mean is finite. Such rows (and
/// those that see a value which isn't finite) are done once more with a maximum that is larger by
/// 60, so that weights are at most 2^-52. (Of scores beyond 2^28, adding 60 to a float may change
/// nothing, and the sum may remain infinite.)
template <typename Call, typename T, typename Worker>
void write_rows(const Call& call, const StripLayout<typename Call::Storage>& layout,
                RowBlockOf<Call>& rows, const RowState<T>* states, const T* out,
                const Worker& worker) {
  const Index out_row = layout.padded_value_dim();
  constexpr Index ahead = 8;  // rows are far apart, and a store waits for its line
  const auto prefetch_out = [&](Index r) {
    const auto* y = call.out_row(rows.batch(), rows.row(r).q_index, rows.row(r).head);
    for (Index c = 0; c < call.shape.value_dim; c += Index{alignment / sizeof(*y)}) {
      simd::prefetch_to_write(y + c);
    }
  };
  T least_max[max_block_rows];
  bool overflows = false;
  for (Index r = 0; r < rows.rows(); ++r) {
    if (r + ahead < rows.rows()) prefetch_out(r + ahead);
    const QueryRow& at = rows.row(r);
    const RowState<T> total = write_out(call, rows.batch(), at, states[r], out + r * out_row);
    if (call.options.lse) call.lse(rows.batch(), at.head, at.q_index) = total.lse();
    const bool again = std::isfinite(states[r].sum) && !all_finite(out + r * out_row, out_row);
    least_max[r] = again ? states[r].max + 60 / RowState<T>::unit : RowState<T>::empty_max;
    overflows |= again;
  }
  if (!overflows) return;
  rows.set_least_max(least_max);
  walk_splits(call, layout, rows, worker);
  for (Index r = 0; r < rows.rows(); ++r) {
    if (least_max[r] == RowState<T>::empty_max) continue;
    const QueryRow& at = rows.row(r);
    const T* sums = worker.total_out + r * out_row;
    write_out(call, rows.batch(), at, worker.total_states[r], sums);
    auto* y = call.out_row(rows.batch(), at.q_index, at.head);
    for (Index c = 0; c < call.shape.value_dim; ++c) {
      // A mean of finite values is finite, whatever rounding did.
      if (!std::isfinite(sums[c]) || std::isfinite(convert<T>(y[c]))) continue;
      const T largest = std::copysign((std::numeric_limits<T>::max)(), sums[c]);
      y[c] = convert<std::remove_pointer_t<decltype(y)>>(largest);
    }
  }
  rows.set_least_max(nullptr);
}

template <typename Call, typename ExecutorT>
void attend_row_blocks(const Call& call, const AttendPlan& plan,
                       const StripLayout<typename Call::Storage>& layout,
                       const Scratch<Call>& scratch, ExecutorT& executor) {
  const auto parts = [&](Index b) { return sequence_parts(call, 1, b); };
  const TaskList list(scratch.first_task, call.shape.batch, call.shape.num_kv_heads, parts);
  run_tasks(executor, plan.tasks, [&](Index number, Index worker_index) {
    const Index b = list.sequence_of(number);
    const Task task = list(number, b, parts(b));
    const auto worker = scratch.worker(plan.scratch_slots(number, worker_index));
    const Index row_begin = task.row_block * max_block_rows;
    const Index row_count = (std::min)(max_block_rows, call.rows(b) - row_begin);
    RowBlockOf<Call> rows(call, layout, worker.rows, b, task.kv_head, row_begin, row_count);
    walk_splits(call, layout, rows, worker);
    write_rows(call, layout, rows, worker.total_states, worker.total_out, worker);
  });
}

}  // namespace GQA_ISA
}  // namespace gqa::detail
