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

template <KvSource Source>
class PackedKv {
 public:
  using Storage = Native<typename Source::Storage>;
  static constexpr KvLayout layout = KvLayout::strips;

  explicit PackedKv(const Source& source)
      : source_(source), layout_(source.head_dim(), source.value_dim()) {}

  /// Bytes that fill() needs: all sequences as long as the longest. Throws std::length_error: where
  /// keys share memory, as those of a head that others repeat, they may be more than memory has.
  std::size_t bytes() const {
    return static_cast<std::size_t>(
        memory_bytes("keys and values packed for attend",
                     {batch(), num_kv_heads(), blocks_per_head(), layout_.block_bytes()}));
  }

  /// Packs everything into `memory`; a task is one block, its heads one after another as in
  /// TaskList.
  template <typename ExecutorT>
  void fill(std::byte* memory, ExecutorT& executor) {
    memory_ = memory;
    const Index blocks = blocks_per_head();
    run_tasks(executor, batch() * num_kv_heads() * blocks, [&](Index task, Index) {
      const Index h = task % num_kv_heads(), block = task / num_kv_heads() % blocks;
      const Index b = task / num_kv_heads() / blocks, begin = block * block_keys;
      const Index end = (std::min)(begin + block_keys, length(b));
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
  Index first_position(Index b) const { return gqa::first_position(source_, b); }

  template <typename F>
  void for_each_run(Index b, Index kv_head, Index begin, Index end, F&& fn) const {
    fn(StripRun{
        .blocks = block_at(b, kv_head, begin / block_keys), .first = begin, .count = end - begin});
  }

 private:
  std::byte* block_at(Index b, Index kv_head, Index block) const {
    return memory_ +
           ((b * num_kv_heads() + kv_head) * blocks_per_head() + block) * layout_.block_bytes();
  }
  Index blocks_per_head() const {
    Index longest = 0;
    for (Index b = 0; b < batch(); ++b) longest = (std::max)(longest, Index{length(b)});
    return ceil_div(longest, block_keys);
  }

  const Source& source_;
  StripLayout<Storage> layout_;
  std::byte* memory_ = nullptr;
};

}  // namespace GQA_ISA
}  // namespace gqa::detail
