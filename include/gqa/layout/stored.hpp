// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A token as files hold it: the key of one head, then its value, number by number and
// little-endian, each followed by its scale where the storage is quantised; two int4 are a byte,
// the first in the lower bits, and what an odd number of them leaves over is ignored. It doesn't
// depend on how strips lie in memory, so that they may change and files stay. Nothing is rounded.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "gqa/layout/strips.hpp"

namespace gqa {

/// Copies the bytes of a number; on a machine that isn't little-endian, in the other order.
GQA_TAG inline void copy_little_endian(const void* from, void* to, std::size_t bytes) {
  std::memcpy(to, from, bytes);
  if constexpr (std::endian::native != std::endian::little) {
    std::reverse(static_cast<std::byte*>(to), static_cast<std::byte*>(to) + bytes);
  }
}

namespace detail {

/// fn(number, offset) for the numbers of token `t` of a block, in a file's order, with the number
/// of bytes in front of each. Block: Storage, const or not.
template <typename Storage, typename Block, typename F>
GQA_TAG void for_each_stored(const StripLayout<Storage>& layout, Block* block, Index t, F fn) {
  Index offset = 0;
  const auto next = [&](auto& number) {
    fn(number, offset);
    offset += Index{sizeof(number)};
  };
  // The numbers of a row, at (offset, which element) = place(channel).
  const auto row = [&](Index dim, auto place) {
    if constexpr (elements_per<Storage> == 1) {
      for (Index c = 0; c < dim; ++c) next(block[place(c).first]);
    } else {
      for (Index c = 0; c < dim; c += 2) {
        const Index count = (std::min)(dim - c, Index{2});
        Storage pair;
        for (Index i = 0; i < count; ++i) {
          const auto [at, which] = place(c + i);
          set_integer(pair, i, integer_of(block[at], which));
        }
        next(pair);
        for (Index i = 0; i < count; ++i) {
          const auto [at, which] = place(c + i);
          if constexpr (!std::is_const_v<Block>) set_integer(block[at], which, integer_of(pair, i));
        }
      }
    }
  };
  row(layout.head_dim(),
      [&](Index c) { return std::pair(layout.key_offset(t, c), layout.key_half(c)); });
  if constexpr (is_quantized<Storage>) next(layout.key_scales(block)[t]);
  row(layout.value_dim(),
      [&](Index c) { return std::pair(layout.value_offset(t, c), layout.value_half(t)); });
  if constexpr (is_quantized<Storage>) next(layout.value_scales(block)[t]);
}

}  // namespace detail

/// Writes token `t` of a block to `to`, layout.token_bytes() bytes.
template <typename Storage>
GQA_TAG void get_stored_token(const StripLayout<Storage>& layout, const Storage* block, Index t,
                              std::byte* to) {
  detail::for_each_stored(layout, block, t, [&](const auto& number, Index offset) {
    copy_little_endian(&number, to + offset, sizeof(number));
  });
}

/// Reads token `t` of a block from what get_stored_token() wrote. Padding is not written.
template <typename Storage>
GQA_TAG void put_stored_token(const StripLayout<Storage>& layout, Storage* block, Index t,
                              const std::byte* from) {
  detail::for_each_stored(layout, block, t, [&](auto& number, Index offset) {
    copy_little_endian(from + offset, &number, sizeof(number));
  });
}

}  // namespace gqa
