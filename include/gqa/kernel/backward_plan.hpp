// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// How a backward pass is cut into tasks, and the scratch that this takes. dk and dv are sums over
// all query rows of a group, so a task owns them: one KV head against all of its rows, or against a
// chunk of them with a dk and dv of its own, and chunks are added up in their order. Chunks follow
// from the shape alone, so bits don't depend on the number of workers.
#pragma once

#include "gqa/kernel/backward_block.hpp"
#include "gqa/parallel/tasks.hpp"

namespace gqa {

/// Rows of a chunk are at least these: 4 row blocks, so that packing a KV head's keys and adding up
/// its gradients once more stay small beside the products.
inline constexpr Index min_chunk_rows = 4 * max_block_rows;
/// A sequence is cut into about so many tasks where it has enough rows: more of them would feed
/// more workers, and cost a dk and dv each.
inline constexpr Index tasks_per_sequence = 16;

/// The rows of one sequence that read one KV head, in chunks.
struct RowChunks {
  Index rows = 0;
  Index chunk_rows = 0;

  GQA_TAG RowChunks(Index all_rows, Index num_kv_heads) : rows(all_rows) {
    const Index chunks = std::max<Index>(tasks_per_sequence / num_kv_heads, 1);
    chunk_rows = round_up((std::max)(ceil_div(rows, chunks), min_chunk_rows), max_block_rows);
  }
  /// At least one, which writes zeros where there are no rows.
  GQA_TAG Index count() const { return std::max<Index>(ceil_div(rows, chunk_rows), 1); }
  GQA_TAG Index begin(Index chunk) const { return (std::min)(chunk * chunk_rows, rows); }
};

namespace detail {
inline namespace GQA_ISA {

/// dk and dv of one KV head as sums, unscaled: rows [blocks * 64][padded dim].
template <typename T>
struct KeyGradients {
  T* dk = nullptr;
  T* dv = nullptr;

  KeyGradients(Carver& carver, const BackwardLayout<T>& layout, Index blocks)
      : dk(carver.take<T>(blocks * block_keys * layout.key_row())),
        dv(carver.take<T>(blocks * block_keys * layout.value_row())) {}
  void zero(const BackwardLayout<T>& layout, Index blocks) const {
    std::fill_n(dk, blocks * block_keys * layout.key_row(), T(0));
    std::fill_n(dv, blocks * block_keys * layout.value_row(), T(0));
  }
};

/// What a worker needs for one task.
template <typename T>
struct BackwardWorker {
  PackedBlocks<T> packed;
  KeyGradients<T> gradients;  // where chunks have none of their own
  typename BackwardBlock<T>::Scratch block;

  BackwardWorker(Carver& carver, const BackwardLayout<T>& layout, Index blocks, Index rows,
                 bool has_gradients)
      : packed(carver, layout, blocks),
        gradients(carver, layout, has_gradients ? blocks : 0),
        block(carver, layout, rows) {}
};

/// The tasks and the scratch of a call.
template <typename T>
class BackwardPlan {
 public:
  explicit BackwardPlan(const BackwardCall<T>& call)
      : layout(call.shape.head_dim, call.shape.value_dim),
        blocks_(ceil_div(call.shape.kv_len, block_keys)) {
    Index most_rows = 1;
    for (Index b = 0; b < call.shape.batch; ++b) {
      most_rows = (std::max)(most_rows, call.rows(b));
      chunks_ = (std::max)(chunks_, RowChunks(call.rows(b), call.shape.num_kv_heads).count());
    }
    block_rows_ = (std::min)(most_rows, max_block_rows);
    rows_ = call.shape.batch * call.shape.num_heads * call.shape.q_len;
    has_sink_gradient_ = !call.backward.sink_gradient.empty();
    Carver carver;
    RowSums<T>(carver, rows_, has_sink_gradient_);
    partials_ = carver.bytes();
    Carver part;
    KeyGradients<T>(part, layout, blocks_);
    partial_bytes_ = chunks_ > 1 ? part.bytes() : 0;
    const Index tasks = call.shape.batch * call.shape.num_kv_heads * chunks_;
    workers_ = partials_ + partial_bytes_ * static_cast<std::size_t>(tasks);
    scratch_slots = ScratchSlots::of(call.executor.concurrency(), tasks);
    Carver one;
    BackwardWorker<T>(one, layout, blocks_, block_rows_, chunks_ == 1);
    worker_bytes_ = one.bytes();
    bytes_ = workers_ + worker_bytes_ * static_cast<std::size_t>(scratch_slots.count);
  }

  std::size_t bytes() const { return bytes_; }
  /// Chunks of the sequence with the most rows.
  Index chunks() const { return chunks_; }

  RowSums<T> row_sums(std::byte* memory) const {
    Carver carver(memory);
    return RowSums<T>(carver, rows_, has_sink_gradient_);
  }
  /// The gradients of a task, where tasks have their own: chunks() > 1.
  KeyGradients<T> partial(std::byte* memory, Index task) const {
    Carver carver(memory + partials_ + static_cast<std::size_t>(task) * partial_bytes_);
    return KeyGradients<T>(carver, layout, blocks_);
  }
  BackwardWorker<T> worker(std::byte* memory, Index i) const {
    Carver carver(memory + workers_ + static_cast<std::size_t>(i) * worker_bytes_);
    return BackwardWorker<T>(carver, layout, blocks_, block_rows_, chunks_ == 1);
  }

  BackwardLayout<T> layout;
  ScratchSlots scratch_slots;

 private:
  Index rows_ = 0;
  bool has_sink_gradient_ = false;
  Index blocks_;
  Index block_rows_ = 1;
  Index chunks_ = 1;
  std::size_t partials_ = 0, partial_bytes_ = 0, workers_ = 0, worker_bytes_ = 0, bytes_ = 0;
};

}  // namespace GQA_ISA
}  // namespace detail
}  // namespace gqa
