// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The checksum of saved caches: the CRC-32 of zlib, PNG and Ethernet (ISO 3309). It finds every
// change of up to four bytes in a row. Eight bytes a step (Kounavis and Berry 2005).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "gqa/core/config.hpp"

namespace gqa::detail {

/// table[n][b]: what byte b, followed by n zeros, adds.
using Crc32Table = std::array<std::array<std::uint32_t, 256>, 8>;
GQA_TAG constexpr Crc32Table make_crc32_table() {
  Crc32Table table{};
  for (std::uint32_t b = 0; b < 256; ++b) {
    std::uint32_t crc = b;
    for (int bit = 0; bit < 8; ++bit) crc = crc % 2 == 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    table[0][b] = crc;
  }
  for (std::uint32_t b = 0; b < 256; ++b) {
    for (std::size_t n = 1; n < 8; ++n) {
      const std::uint32_t before = table[n - 1][b];
      table[n][b] = before >> 8 ^ table[0][before % 256];
    }
  }
  return table;
}
inline constexpr Crc32Table crc32_table = make_crc32_table();

/// The checksum of some bytes, or, given that of what came before them, of all.
GQA_TAG inline std::uint32_t crc32(const std::byte* data, std::size_t bytes,
                                   std::uint32_t before = 0) {
  const auto& table = crc32_table;
  const auto at = [&](std::size_t i) { return static_cast<std::uint32_t>(data[i]); };
  std::uint32_t crc = ~before;
  for (; bytes >= 8; bytes -= 8, data += 8) {
    crc ^= at(0) | at(1) << 8 | at(2) << 16 | at(3) << 24;
    crc = table[7][crc % 256] ^ table[6][crc >> 8 & 255] ^ table[5][crc >> 16 & 255] ^
          table[4][crc >> 24] ^ table[3][at(4)] ^ table[2][at(5)] ^ table[1][at(6)] ^
          table[0][at(7)];
  }
  for (; bytes > 0; --bytes, ++data) crc = crc >> 8 ^ table[0][(crc ^ at(0)) % 256];
  return ~crc;
}

}  // namespace gqa::detail
