// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// tile.hpp's products for keys and values that lie as rows in a user's tensors, 64 of them that all
// query rows see: for decoding, where packing them into strips first costs more than multiplying
// them. The order of sums is that of strips, and so are the bits.
#pragma once

#include "gqa/kernel/tile.hpp"

namespace gqa {
inline namespace GQA_ISA {

/// Query rows that these products take: their sums stay in registers beside a transposed square.
inline constexpr int max_row_tile_rows = simd::registers >= 32 ? 8 : 4;

/// Can they be multiplied where they lie? Keys are transposed in squares, values taken in half
/// strips.
template <typename Storage>
bool multiplies_rows([[maybe_unused]] const StripLayout<Storage>& layout) {
  if constexpr (std::same_as<Storage, float>) {
    return layout.head_dim() % simd::Pack<float>::size == 0 &&
           layout.value_dim() % (strip_width / 2) == 0;
  } else {
    return false;
  }
}

/// S = Q Kᵀ for queries packed as [head_dim][rows], into s [rows][64]: a square of keys and
/// channels at a time is transposed in registers, so that shuffles and multiplications overlap.
/// What is `ahead` bytes after a key is prefetched.
template <int Rows>
void multiply_key_rows(const float* GQA_RESTRICT q, const float* keys, Index stride, Index head_dim,
                       float* GQA_RESTRICT s, std::uintptr_t ahead) {
  using Pack = simd::Pack<float>;
  constexpr Index line = alignment / Index{sizeof(float)};
  for (Index key = 0; key < block_keys; key += Pack::size) {
    Pack sum[std::size_t{Rows}];
    GQA_UNROLL
    for (int r = 0; r < Rows; ++r) sum[r] = Pack::zero();
    for (Index c = 0; c < head_dim; c += Pack::size) {
      Pack square[Pack::size];
      GQA_UNROLL
      for (int i = 0; i < static_cast<int>(Pack::size); ++i) {
        const float* row = keys + (key + i) * stride + c;
        square[i] = Pack::load(row);
        if (c % line == 0) simd::prefetch(row, ahead);
      }
      transpose(square);
      GQA_UNROLL
      for (int i = 0; i < static_cast<int>(Pack::size); ++i) {
        GQA_UNROLL
        for (int r = 0; r < Rows; ++r) {
          sum[r] = fma(Pack::broadcast(q[(c + i) * Rows + r]), square[i], sum[r]);
        }
      }
    }
    GQA_UNROLL
    for (int r = 0; r < Rows; ++r) sum[r].store(s + r * block_keys + key);
  }
}

/// O += P V: values weighted with weights [rows][64], added to out [rows][value_dim].
template <int Rows>
void multiply_value_rows(const float* weights, const float* values, Index stride, Index value_dim,
                         float* out, std::uintptr_t ahead) {
  constexpr Index size = simd::Pack<float>::size;
  Index channel = 0;
  const auto multiply_with = [&]<int Registers>() {
    for (; channel + Registers * size <= value_dim; channel += Registers * size) {
      multiply<Rows, Registers, Step<block_keys, 1>, Product::outputs>(
          weights, values + channel, stride, strip_width, block_keys, out + channel, value_dim,
          nullptr, Prefetch{ahead});
    }
  };
  constexpr int half_strip = static_cast<int>(strip_width / size / 2);
  multiply_with.template operator()<tile_registers(Rows)>();
  if constexpr (tile_registers(Rows) > half_strip) multiply_with.template operator()<half_strip>();
}

/// Both for a number of rows known at run time, at most max_row_tile_rows.
template <typename F>
void with_row_tile(Index rows, F f) {
  with_rows(rows, [&]<int Rows>() {
    if constexpr (Rows <= max_row_tile_rows) f.template operator()<Rows>();
  });
}

}  // namespace GQA_ISA
}  // namespace gqa
