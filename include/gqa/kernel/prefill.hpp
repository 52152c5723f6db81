// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A task is one row block against all of its keys, split by split, the splits' states merged as
// they are made: prefill, and decoding with enough heads and sequences for all workers.
#pragma once

#include "gqa/kernel/plan.hpp"

namespace gqa::detail {
inline namespace GQA_ISA {

/// Walks a row block through keys [begin, end) of one split, block by block, of a user's rows;
/// `seen` is what is known of what it sees of them (full, or else partial), `packed` room for one
/// block.
template <typename Storage>
void walk_rows(const AnySource& source, const StripLayout<Storage>& layout, RowBlock<Storage>& rows,
               Index begin, Index end, Coverage seen, Storage* packed) {
  for (Index first = begin; first < end; first += block_keys) {
    const Index keys = (std::min)(block_keys, end - first);
    const Coverage of_block = seen == Coverage::full ? seen : rows.coverage(first, first + keys);
    if (of_block == Coverage::skip) continue;
    pack_block(source, rows.batch(), rows.kv_head(), first, first + keys, layout, packed);
    rows.step(packed, first, keys, of_block);
  }
}

/// The same of a source of strips. `after` is what will be read after the last key of the sequence,
/// where that is not what the source says.
template <typename Storage>
void walk_strips(const AnySource& source, const StripLayout<Storage>& layout,
                 RowBlock<Storage>& rows, Index begin, Index end, Coverage seen,
                 const std::byte* after) {
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
  source.for_each_run<StripRun>(rows.batch(), rows.kv_head(), begin,
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
              (std::min)(blocks[i].keys, end - blocks[i].first), seen,
              reinterpret_cast<const Storage*>(data), stream);
  }
}

/// Either.
template <KvLayout Layout, typename Storage>
void walk(const AnySource& source, const StripLayout<Storage>& layout, RowBlock<Storage>& rows,
          Index begin, Index end, Coverage seen, Storage* packed,
          const std::byte* after = nullptr) {
  if constexpr (Layout == KvLayout::rows) {
    walk_rows(source, layout, rows, begin, end, seen, packed);
  } else {
    walk_strips(source, layout, rows, begin, end, seen, after);
  }
  rows.finish();
}

/// What a row's sums become out by, and its state with the sink logit in it, if there is one.
template <typename T>
std::pair<RowState<T>, T> finished(RowState<T> state, bool has_sinks, float sink_logit) {
  T numerator = 1;  // what the sink logit leaves of the row's own weights
  if (has_sinks) {
    // A state with the weight of one key and no value.
    const RowState<T> sink{.max = static_cast<T>(sink_logit) * RowState<T>::score_factor, .sum = 1};
    const T max = safe_max(sink.max > state.max ? sink.max : state.max);
    const auto weight = [max](T other) { return simd::exp2((other - max) * RowState<T>::unit); };
    numerator = weight(state.max);
    state.sum = simd::fma(numerator, state.sum, weight(sink.max));
    state.max = max;
  }
  // No visible key: the sum is 0 and 0 / 0 is NaN, so out = 0.
  return {state, state.empty() ? T(0) : numerator / state.sum};
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
template <KvLayout Layout, typename Storage>
void walk_splits(const AttentionCall& call, const StripLayout<Storage>& layout,
                 RowBlock<Storage>& rows, const typename Scratch<Storage>::Worker& worker) {
  const Index out_row = layout.padded_value_dim(), length = call.source.length(rows.batch());
  const auto coverage = [&](Index begin, Index end) { return rows.coverage(begin, end); };
  bool merges = false;  // the first split's states are the total's
  for_each_split(call.source, rows.batch(), coverage, [&](Index split, Coverage seen) {
    const Index begin = split * split_keys;
    rows.reset(merges ? worker.states : worker.total_states,
               merges ? worker.out : worker.total_out);
    walk<Layout>(call.source, layout, rows, begin, (std::min)(length, begin + split_keys), seen,
                 worker.packed);
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
template <KvLayout Layout, typename Storage, typename T>
void write_rows(const AttentionCall& call, const RulesView& rules,
                const StripLayout<Storage>& layout, RowBlock<Storage>& rows,
                const RowState<T>* states, const T* out,
                const typename Scratch<Storage>::Worker& worker) {
  const Index out_row = layout.padded_value_dim(), dim = call.shape.value_dim;
  const Dtype dtype = call.out.dtype;
  const auto place = [&](Index r) {
    const QueryRow& at = rows.row(r);
    return call.row(call.out, at.batch, at.q_index, at.head);
  };
  const auto total = [&](Index r, const RowState<T>& state) {
    const bool sinks = rules.has_sinks();
    return finished(state, sinks, sinks ? rules.sink(rows.row(r).head) : 0);
  };
  constexpr Index ahead = 8;  // rows are far apart, and a store waits for its line
  T least_max[max_block_rows];
  bool overflows = false;
  for (Index r = 0; r < rows.rows(); ++r) {
    if (r + ahead < rows.rows()) {
      const std::byte* later = place(r + ahead);
      for (Index c = 0; c < dim * element_bytes(dtype); c += Index{alignment}) {
        simd::prefetch_to_write(later + c);
      }
    }
    const T* sums = out + r * out_row;
    const auto [state, factor] = total(r, states[r]);
    write_row(sums, factor, dim, place(r), dtype);
    if (call.lse)
      call.lse_of<T>(rows.row(r).batch, rows.row(r).head, rows.row(r).q_index) = state.lse();
    const bool again = std::isfinite(states[r].sum) && !all_finite(sums, out_row);
    least_max[r] = again ? states[r].max + 60 / RowState<T>::unit : RowState<T>::empty_max;
    overflows |= again;
  }
  if (!overflows) return;
  rows.set_least_max(least_max);
  walk_splits<Layout>(call, layout, rows, worker);
  for (Index r = 0; r < rows.rows(); ++r) {
    if (least_max[r] == RowState<T>::empty_max) continue;
    const T* sums = worker.total_out + r * out_row;
    const auto [state, factor] = total(r, worker.total_states[r]);
    write_row(sums, factor, dim, place(r), dtype);
    for (Index c = 0; c < dim; ++c) {
      // A mean of finite values is finite, whatever rounding did.
      std::byte* const y = place(r) + c * element_bytes(dtype);
      T room;
      if (!std::isfinite(sums[c]) || std::isfinite(*read_row(y, dtype, 1, &room))) continue;
      const T largest = std::copysign((std::numeric_limits<T>::max)(), sums[c]);
      write_row(&largest, T(1), 1, y, dtype);
    }
  }
  rows.set_least_max(nullptr);
}

template <KvLayout Layout, typename Storage>
void attend_row_blocks(const AttentionCall& call, const RulesView& rules, const AttendPlan& plan,
                       const StripLayout<Storage>& layout, const Scratch<Storage>& scratch) {
  const auto parts = [&](Index b) { return sequence_parts(call, 1, b); };
  const TaskList list(scratch.first_task, call.shape.batch, call.shape.num_kv_heads, parts);
  run_tasks(call.executor, plan.tasks, [&](Index number, Index worker_index) {
    const Index b = list.sequence_of(number);
    const Task task = list(number, b, parts(b));
    const auto worker = scratch.worker(plan.scratch_slots(number, worker_index));
    const Index begin = task.row_block * max_block_rows;
    RowBlock<Storage> rows(call, rules, layout, worker.rows,
                           {.batch = b,
                            .kv_head = task.kv_head,
                            .begin = begin,
                            .count = (std::min)(max_block_rows, call.rows(b) - begin)});
    walk_splits<Layout>(call, layout, rows, worker);
    write_rows<Layout>(call, rules, layout, rows, worker.total_states, worker.total_out, worker);
  });
}

}  // namespace GQA_ISA
}  // namespace gqa::detail
