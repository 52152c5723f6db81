// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// PackedKv: a source of rows, packed into strips for one call. Where several row blocks read the
// same KV head, its keys and values are packed once for all of them.
#pragma once

#include "gqa/layout/pack.hpp"
#include "gqa/parallel/tasks.hpp"

namespace gqa::detail {
inline namespace GQA_ISA {

template <typename StorageT>
class PackedKv {
 public:
  using Storage = StorageT;
  static constexpr KvLayout layout = KvLayout::strips;

  explicit PackedKv(const AnySource& source)
      : source_(source), layout_(source.head_dim(), source.value_dim()) {
    for (Index b = 0; b < batch(); ++b) {
      blocks_per_head_ = (std::max)(blocks_per_head_, ceil_div(length(b), block_keys));
    }
  }

  /// Bytes that fill() needs: all sequences as long as the longest. Throws std::length_error: where
  /// keys share memory, as those of a head that others repeat, they may be more than memory has.
  std::size_t bytes() const {
    return static_cast<std::size_t>(
        memory_bytes("keys and values packed for attend",
                     {batch(), num_kv_heads(), blocks_per_head_, layout_.block_bytes()}));
  }

  /// Packs everything into `memory`; a task is one block, its heads one after another as in
  /// TaskList.
  void fill(std::byte* memory, const AnyExecutor& executor) {
    memory_ = memory;
    const Index heads = num_kv_heads(), blocks = blocks_per_head_;
    run_tasks(executor, batch() * heads * blocks, [&](Index task, Index) {
      const Index h = task % heads, block = task / heads % blocks, b = task / heads / blocks;
      const Index begin = block * block_keys, end = (std::min)(begin + block_keys, length(b));
      if (begin < end) {
        pack_block(source_, b, h, begin, end, layout_,
                   reinterpret_cast<Storage*>(block_at(b, h, block)));
      }
    });
  }

  Index batch() const { return source_.batch(); }
  Index num_kv_heads() const { return source_.num_kv_heads(); }
  Index head_dim() const { return source_.head_dim(); }
  Index value_dim() const { return source_.value_dim(); }
  Index length(Index b) const { return source_.length(b); }
  Index first_position(Index b) const { return source_.first_position(b); }

  template <typename F>
  void for_each_run(Index b, Index kv_head, Index begin, Index end, F&& fn) const {
    fn(StripRun{
        .blocks = block_at(b, kv_head, begin / block_keys), .first = begin, .count = end - begin});
  }

 private:
  std::byte* block_at(Index b, Index kv_head, Index block) const {
    return memory_ +
           ((b * num_kv_heads() + kv_head) * blocks_per_head_ + block) * layout_.block_bytes();
  }

  AnySource source_;
  StripLayout<Storage> layout_;
  Index blocks_per_head_ = 0;
  std::byte* memory_ = nullptr;
};

}  // namespace GQA_ISA
}  // namespace gqa::detail
