// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// RowBlock: the query rows that one task carries past a KV head's keys. Its step() is attention: 64
// keys against all rows,
//
//   S = Q Kᵀ,   P = 2^(S - max),   O += P V,
//
// the keys and values read once for all rows, that is for every query head of the group and every
// query token of the block. All decisions (maximum, rescaling, visibility) are made per row, and
// what is hidden adds exact zeros, so a row's bits don't depend on its company.
#pragma once

#include "gqa/kernel/row_softmax.hpp"
#include "gqa/kernel/row_tile.hpp"

namespace gqa {

/// How far ahead of the multiplication keys and values are prefetched, rounded up to whole blocks.
/// On Zen 4, 32 to 128 KiB gave the same decode speed, 8 KiB a third less; prefetching into L1 gave
/// nothing at any distance.
inline constexpr Index prefetch_bytes = 32 * 1024;
/// The same in blocks, at most.
inline constexpr Index max_blocks_ahead = 8;
/// Few rows take less time than memory does. Where a program reads more than L3, here of 32 MiB,
/// holds (Workspace::set_working_set(), or a call's keys and values alone), they are read strip
/// after strip, as one stream: the processor then reads ahead by itself, but not across the end of
/// a page. A row alone is helped with all lines a page ahead, more rows only with those that a page
/// begins with. (Zen 4, f32 from memory, 1, 2, 3 and 4 rows: 29, 28, 26 and 25 GB/s; a block ahead,
/// 20 to 22. Where L3 holds a part of them, four rows would lose up to 0.3.)
inline constexpr Index large_kv_bytes = 48 * 1024 * 1024;
/// Of keys and values in pieces, as pages are, only those so large are worth a stream: it loses 0.7
/// us at the end of each.
inline constexpr Index least_stream_bytes = 256 * 1024;
inline constexpr Index memory_page_bytes = 4096, memory_page_start_bytes = 512;

inline namespace GQA_ISA {

/// Do blocks of so many rows of sequence b read keys and values as a stream? Not those of quantised
/// storage, whose tiles are short: at the end of each, reading pauses.
template <typename Storage>
bool reads_stream(const detail::AttentionCall& call, const StripLayout<Storage>& layout, Index b,
                  Index rows) {
  if (rows > few_rows || is_quantized<Storage>) return false;
  const Index blocks = call.source.batch() * call.source.num_kv_heads() *
                       ceil_div(call.source.length(b), block_keys);
  const std::size_t working_set = call.workspace ? call.workspace->working_set() : 0;
  return blocks * layout.block_bytes() >= large_kv_bytes ||
         working_set >= std::size_t{large_kv_bytes};
}

template <typename Storage>
class RowBlock {
 public:
  using T = AccumulatorOf<Storage>;
  using Softmax = RowSoftmax<Storage>;
  static constexpr bool quantized = is_quantized<Storage>;

  /// Scratch of one worker, for blocks of up to `rows` rows.
  struct Scratch {
    typename QueryRows<Storage>::Scratch queries;
    typename Softmax::Scratch softmax;
    Storage* clean_values;  // one block, see add_values_row_by_row()

    Scratch(Carver& carver, Index rows, const StripLayout<Storage>& layout)
        : queries(carver, rows, layout),
          softmax(carver, rows),
          clean_values(carver.take<Storage>(layout.block_elements())) {}
    /// Of a block that takes its steps in turn with another: what a step leaves behind is shared.
    Scratch(Carver& carver, Index rows, const StripLayout<Storage>& layout, const Scratch& other)
        : queries(carver, rows, layout),
          softmax(carver, rows, other.softmax),
          clean_values(other.clean_values) {}
  };

  /// `states` and `out` [rows][padded value_dim] of reset() receive the result of step().
  GQA_NOINLINE RowBlock(const detail::AttentionCall& call, const detail::RulesView& rules,
                        const StripLayout<Storage>& layout, const Scratch& scratch,
                        const RowRange& range)
      : rules_(rules),
        layout_(layout),
        clean_values_(scratch.clean_values),
        kv_head_(range.kv_head),
        queries_(call, call.q, layout, scratch.queries, range),
        tiles_(queries_.tiles()),
        softmax_(rules, layout, scratch.softmax),
        may_stream_(reads_stream(call, layout, range.batch, range.count)) {}

  Index rows() const { return queries_.size(); }
  Index batch() const { return queries_.batch(); }
  Index kv_head() const { return kv_head_; }
  const QueryRow& row(Index r) const { return queries_[r]; }

  /// From the next reset() on, row r's maximum is `least_max[r]` at least: weights are smaller
  /// then, and the states as valid.
  void set_least_max(const T* least_max) { softmax_.set_least_max(least_max); }
  bool has_least_max() const { return softmax_.has_least_max(); }

  /// Starts a new range of keys, whose result goes to `states` and `out`.
  void reset(RowState<T>* states, T* out) { softmax_.reset(rows(), states, out); }

  /// What the rows see of keys [k_begin, k_end). Of a full stretch, a step needn't ask again.
  Coverage coverage(Index k_begin, Index k_end) const {
    return queries_.coverage(rules_, 0, rows(), k_begin, k_end);
  }

  /// How many blocks ahead of step()'s `block` its `later` is to be, unless it is read as a stream.
  Index blocks_ahead() const {
    return (std::min)(max_blocks_ahead, ceil_div(prefetch_bytes, layout_.block_bytes()));
  }

  /// Is step() to read a block as a stream, if the next one comes right after it?
  bool may_stream() const { return may_stream_; }

  /// One block of keys and values: `keys` of them, from index `first` on. `later` is a block that
  /// will be read soon, or null: it is brought to L2 while this one is multiplied, line by line,
  /// which is what makes a decode step take the larger of memory time and compute time rather than
  /// their sum. As a stream, strip after strip, it is the next one.
  /// `known` is what is known of what the rows see of them: full, or else partial.
  void step(const Storage* block, Index first, Index keys, Coverage known,
            const Storage* later = nullptr, bool stream = false) {
    const Prefetch prefetch =
        stream ? stream_prefetch(block, later, 0) : block_prefetch(block, later);
    Seen seen[max_block_tiles];
    if (!look(rules_, queries_, first, keys, known, seen)) return;

    // S = Q Kᵀ. Strips outside, so that a strip of keys stays in L1 for all tiles.
    for_each_strip(tiles_, seen, [&](Index tile, int begin, int end) {
      if (stream) {
        for (int strip = begin; strip < end; ++strip) {
          multiply_keys(rows(), layout_, queries_.packed(0), block, strip, strip + 1,
                        softmax_.scores(0), prefetch);
        }
        return;
      }
      multiply_keys(tiles_.height(tile), layout_, queries_.packed(tile), block, begin, end,
                    softmax_.scores(tiles_.begin(tile)), tile == 0 ? prefetch : Prefetch{});
    });

    // P = 2^(S - max), O and the sums rescaled where the maximum grew.
    if constexpr (quantized) prefetch_scales(block, prefetch.ahead);
    for (Index tile = 0; tile < tiles_.count(); ++tile) {
      if (seen[tile].nothing()) continue;
      softmax_.softmax(queries_, tiles_.begin(tile), tiles_.begin(tile + 1), block, first, keys,
                       seen[tile]);
    }

    // O += P V. Strips outside again, now of channels.
    const Index dim = layout_.padded_value_dim();
    const Index width = tiles_.count() == 1 && !stream ? dim : strip_width;
    const bool poisoned = hides_non_finite_values(block, seen);
    for (Index channel = 0; channel < dim; channel += width) {
      for (Index tile = 0; tile < tiles_.count(); ++tile) {
        if (seen[tile].nothing() || (poisoned && seen[tile].is_partial())) continue;
        const Index r = tiles_.begin(tile);
        multiply_values(tiles_.height(tile), layout_, softmax_.weights(r), block,
                        seen[tile].key_begin, seen[tile].key_end, channel,
                        (std::min)(channel + width, dim), softmax_.out_row(r),
                        softmax_.weight_scale(r),
                        stream ? stream_prefetch(block, later, layout_.value_offset(0, channel))
                        : tile == 0 ? prefetch
                                    : Prefetch{});
      }
    }
    if (poisoned) add_values_row_by_row(block, first, keys, seen);
  }

  /// Can step_on_rows() be called for so many keys?
  bool steps_on_rows(Index keys) const {
    return keys == block_keys && rows() <= max_row_tile_rows && multiplies_rows(layout_);
  }

  /// step() for 64 keys that lie as rows and that all rows see. The 64 of `later` are brought to L2
  /// meanwhile.
  template <typename Run>
  void step_on_rows([[maybe_unused]] const Run& run, [[maybe_unused]] const Run& later) {
    if constexpr (std::same_as<Storage, float>) {
      with_row_tile(rows(), [&]<int Rows>() {
        multiply_key_rows<Rows>(queries_.packed(0), run.keys, run.key_stride, layout_.head_dim(),
                                softmax_.scores(0), address(later.keys) - address(run.keys));
        const Seen all{.strip = {Coverage::full, Coverage::full}, .key_end = block_keys};
        softmax_.softmax(queries_, 0, rows(), nullptr, run.first, block_keys, all);
        multiply_value_rows<Rows>(softmax_.weights(0), run.values, run.value_stride,
                                  layout_.value_dim(), softmax_.out_row(0),
                                  address(later.values) - address(run.values));
      });
    }
  }

  /// Completes the states.
  void finish() { softmax_.finish(rows()); }

 private:
  /// What is prefetched while `block` is read: `later`.
  static Prefetch block_prefetch(const Storage* block, const Storage* later) {
    return {.ahead = later ? address(later) - address(block) : 0};
  }
  /// The same while `block`'s strip at `offset` is read as a part of a stream: what is a page
  /// ahead, near the end of the block in `later`.
  Prefetch stream_prefetch(const Storage* block, const Storage* later, Index offset) const {
    const Index middle = (offset + layout_.value_strip_elements() / 2) * Index{sizeof(Storage)};
    const Index to_end = layout_.block_bytes() - memory_page_bytes;
    const auto from_end = [&] { return address(later) - address(block) - std::uintptr_t(to_end); };
    // The lines with none of these bits are those that a page begins with: both are powers of two.
    constexpr std::uintptr_t within_page = memory_page_bytes - memory_page_start_bytes;
    return {.ahead = middle < to_end ? std::uintptr_t{memory_page_bytes}
                     : later         ? from_end()
                                     : 0,
            .skip = within_page};
  }
  static std::uintptr_t address(const Storage* p) { return reinterpret_cast<std::uintptr_t>(p); }

  /// The scales of the block `ahead` bytes after this one, as the products do with the rest.
  void prefetch_scales(const Storage* block, std::uintptr_t ahead) const {
    constexpr Index line = alignment / sizeof(float);
    for (Index i = 0; i < 2 * block_keys; i += line) {
      simd::prefetch(layout_.key_scales(block) + i, ahead);
    }
  }

  /// Is there a NaN or infinity among the values of keys that some row doesn't see? Its weight is
  /// 0, and 0 · NaN is NaN. (After the last key, values are zero.)
  bool hides_non_finite_values(const Storage* block, const Seen* seen) const {
    if constexpr (quantized) return false;  // it would be in a scale, see quantize_weights()
    for (int s = 0; s < 2; ++s) {
      for (Index tile = 0; tile < tiles_.count(); ++tile) {
        if (seen[tile].strip[s] != Coverage::partial) continue;
        if (!finite_values(layout_, block, s * strip_width)) return true;
        break;
      }
    }
    return false;
  }

  /// O += P V for the rows of partial tiles with what a row doesn't see taken as zero: the same
  /// sums in the same order, without 0 · NaN. Slow, and rare.
  void add_values_row_by_row(const Storage* block, Index first, Index keys, const Seen* seen) {
    const Index dim = layout_.padded_value_dim();
    Storage* clean = clean_values_;
    for (Index tile = 0; tile < tiles_.count(); ++tile) {
      if (seen[tile].nothing() || !seen[tile].is_partial()) continue;
      for (Index r = tiles_.begin(tile); r < tiles_.begin(tile + 1); ++r) {
        std::copy(block + layout_.value_begin(), block + layout_.block_elements(),
                  clean + layout_.value_begin());
        bool visible[block_keys];
        rules_.see(queries_.where(r, first), keys, visible);
        for (Index j = 0; j < keys; ++j) {
          if (visible[j]) continue;
          for (Index c = 0; c < dim; ++c) clean[layout_.value_offset(j, c)] = Storage{};
        }
        multiply_values(Index{1}, layout_, softmax_.weights(r), clean, seen[tile].key_begin,
                        seen[tile].key_end, 0, dim, softmax_.out_row(r), softmax_.weight_scale(r),
                        {});
      }
    }
  }

  const detail::RulesView& rules_;
  const StripLayout<Storage>& layout_;
  Storage* clean_values_;
  Index kv_head_;
  QueryRows<Storage> queries_;
  RowTiles tiles_;
  Softmax softmax_;
  bool may_stream_;
};

}  // namespace GQA_ISA
}  // namespace gqa
