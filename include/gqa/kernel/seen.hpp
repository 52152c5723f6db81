// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What a block of query rows sees of a block of 64 keys, tile by tile: what is not seen need be
// neither read nor multiplied. Forward and backward walk the same blocks.
#pragma once

#include "gqa/kernel/row_list.hpp"

namespace gqa {

/// Rows of one block: 8 tiles of 12 (or 16 of 6), so that queries, scores and outputs, 48 + 24 + 48
/// KiB for head_dim 128, stay in L2 beside a block of keys and values, 64 KiB.
inline constexpr Index max_block_rows = 96;
/// Tiles of a block, at most.
inline constexpr Index max_block_tiles = max_block_rows / 6;

/// What a tile of rows sees of a block of keys.
struct Seen {
  Coverage strip[2];    ///< of each strip of 32 keys
  Index key_begin = 0;  ///< nothing outside of [key_begin, key_end) is seen; multiples of 8
  Index key_end = 0;

  GQA_TAG bool nothing() const { return key_begin == key_end; }
  GQA_TAG bool is_full() const { return strip[0] == Coverage::full && strip[1] == Coverage::full; }
  GQA_TAG bool is_partial() const {
    return strip[0] == Coverage::partial || strip[1] == Coverage::partial;
  }
};

inline namespace GQA_ISA {

/// What each tile of `rows` sees of the block of `keys` keys that begins at `first`; false if none
/// sees anything, and `seen` is then as it was. `known` is full, or else partial and to be asked.
GQA_NOINLINE inline bool look(const detail::RulesView& rules, RowList& rows, Index first,
                              Index keys, Coverage known, Seen* seen) {
  const RowTiles& tiles = rows.tiles();
  const Coverage block =
      known == Coverage::full ? known : rows.coverage(rules, 0, rows.size(), first, first + keys);
  if (block == Coverage::skip) return false;
  const bool in_ranges = block == Coverage::partial && rules.has_range();
  if (in_ranges) rows.find_ranges(rules);
  for (Index tile = 0; tile < tiles.count(); ++tile) {
    const auto coverage = [&](Index begin, Index end) {
      if (begin >= keys) return Coverage::skip;
      if (block == Coverage::full) return Coverage::full;
      end = (std::min)(keys, end);
      if (in_ranges) return rows.tile_coverage(tile, first + begin, first + end);
      return rows.coverage(rules, tiles.begin(tile), tiles.begin(tile + 1), first + begin,
                           first + end);
    };
    Seen& at = seen[tile];
    at = {.strip = {coverage(0, strip_width), coverage(strip_width, block_keys)}};
    at.key_begin = at.strip[0] == Coverage::skip ? strip_width : 0;
    at.key_end = at.strip[1] == Coverage::skip ? strip_width : block_keys;
    if (!at.is_partial()) continue;
    // What a strip ends or begins with in vain needn't be multiplied with values.
    constexpr Index step = 8;
    while (at.key_begin < at.key_end && coverage(at.key_end - step, at.key_end) == Coverage::skip) {
      at.key_end -= step;
    }
    while (at.key_begin < at.key_end &&
           coverage(at.key_begin, at.key_begin + step) == Coverage::skip) {
      at.key_begin += step;
    }
  }
  return true;
}

/// Calls fn(tile, strip begin, strip end) for what is visible: both strips at once for a single
/// tile, one strip after the other for several, so that a strip stays in L1 for all of them.
template <typename F>
void for_each_strip(const RowTiles& tiles, const Seen* seen, F fn) {
  if (tiles.count() == 1) {
    const int begin = seen[0].strip[0] == Coverage::skip ? 1 : 0;
    const int end = seen[0].strip[1] == Coverage::skip ? 1 : 2;
    return begin < end ? fn(Index{0}, begin, end) : void();
  }
  for (int s = 0; s < 2; ++s) {
    for (Index tile = 0; tile < tiles.count(); ++tile) {
      if (seen[tile].strip[s] != Coverage::skip) fn(tile, s, s + 1);
    }
  }
}

}  // namespace GQA_ISA
}  // namespace gqa
