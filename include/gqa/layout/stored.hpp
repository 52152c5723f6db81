// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// A token as files hold it: the key of one head, then its value, number by number and
// little-endian, each followed by its scale where the storage is quantised. It doesn't depend on
// how strips lie in memory, so that they may change and files stay. Nothing is rounded.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>

#include "gqa/layout/strips.hpp"

namespace gqa {

/// Copies the bytes of a number; on a machine that isn't little-endian, in the other order.
inline void copy_little_endian(const void* from, void* to, std::size_t bytes) {
  std::memcpy(to, from, bytes);
  if constexpr (std::endian::native != std::endian::little) {
    std::reverse(static_cast<std::byte*>(to), static_cast<std::byte*>(to) + bytes);
  }
}

namespace detail {

/// fn(number, offset) for the numbers of token `t` of a block, in a file's order, with the number
/// of bytes in front of each. Block: Storage, const or not.
template <typename Storage, typename Block, typename F>
void for_each_stored(const StripLayout<Storage>& layout, Block* block, Index t, F fn) {
  Index offset = 0;
  const auto next = [&](auto& number) {
    fn(number, offset);
    offset += Index{sizeof(number)};
  };
  for (Index c = 0; c < layout.head_dim(); ++c) next(block[layout.key_offset(t, c)]);
  if constexpr (is_quantized<Storage>) next(layout.key_scales(block)[t]);
  for (Index c = 0; c < layout.value_dim(); ++c) next(block[layout.value_offset(t, c)]);
  if constexpr (is_quantized<Storage>) next(layout.value_scales(block)[t]);
}

}  // namespace detail

/// Writes token `t` of a block to `to`, layout.token_bytes() bytes.
template <typename Storage>
void get_stored_token(const StripLayout<Storage>& layout, const Storage* block, Index t,
                      std::byte* to) {
  detail::for_each_stored(layout, block, t, [&](const auto& number, Index offset) {
    copy_little_endian(&number, to + offset, sizeof(number));
  });
}

/// Reads token `t` of a block from what get_stored_token() wrote. Padding is not written.
template <typename Storage>
void put_stored_token(const StripLayout<Storage>& layout, Storage* block, Index t,
                      const std::byte* from) {
  detail::for_each_stored(layout, block, t, [&](auto& number, Index offset) {
    copy_little_endian(from + offset, &number, sizeof(number));
  });
}

}  // namespace gqa
