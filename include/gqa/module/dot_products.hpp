// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// y = x Wᵀ + b for a block of tokens and outputs. W [out, in] is row-major, so an element of y is
// the dot product of two rows that lie there in one piece: lanes run along the depth, both operands
// are read where they are, and nothing is packed. The price is a sum over lanes per element and
// chunk of depth, a twentieth of the time; packing W transposed would cost more below 64 tokens,
// and W is what a decode step waits for.
//
// An element has one register of sums, whatever the tile, and chunks of depth are added in order: a
// token's bits depend on its row of x alone, not on how many tokens are computed together.
//
// Eigen's products, which would do the same, are weak symbols of one name for every instruction set
// that a program is compiled for; they put 128 KiB on the stack, start OpenMP threads under
// -fopenmp, and are slower. GFLOP/s of one thread in float, Eigen's in the blocks that suited it,
// then these (EPYC Zen 5, family 26, busy; FMA alone reaches 260 in AVX-512 and 133 in AVX2):
//
//   tokens                 1           4           8          16          64         512
//   2048 x 2048        26 -> 49    40 -> 81    52 -> 95    66 -> 131   117 -> 168  129 -> 176
//   512 x 2048         53 -> 55    60 -> 175   63 -> 177   79 -> 183   127 -> 190  123 -> 180
//   4096 x 4096        17 -> 19    41 -> 48    53 -> 75    62 -> 106   117 -> 168  118 -> 153
//   2048 x 2048, AVX2  25 -> 50    39 -> 52    46 -> 56    55 -> 71     90 -> 102   96 -> 109
//
// Prefetching the next rows of W, or cuts of 32 to 192 tokens and outputs, changed less than the
// machine's noise. A tile alone, in L1, reaches 0.9 of the FMA peak.
#pragma once

#include <algorithm>

#include "gqa/simd/arch.hpp"

namespace gqa::detail {

/// Depth of a chunk: 4 KiB of a row, so that the rows of a tile, which tend to lie powers of two
/// apart, take one line of each set of L1 per row: 4 + 6 rows of 12 (Zen 5) or 3 + 4 of 8 ways.
template <typename T>
inline constexpr Index dot_depth = 4096 / Index{sizeof(T)};

inline namespace GQA_ISA {

/// A pack from p, or its first n numbers and zeros after them.
template <bool Whole, typename T>
GQA_INLINE simd::Pack<T> load_lanes(const T* p, Index n) {
  if constexpr (Whole) {
    return simd::Pack<T>::load(p);
  } else {
    T lanes[simd::Pack<T>::size] = {};
    std::copy_n(p, n, lanes);
    return simd::Pack<T>::load(lanes);
  }
}

/// sum[o][t] += x[t] · w[o] for the lanes at `depth`: a whole pack, or the first n.
template <bool Whole, int Tokens, int Outputs, typename T>
GQA_INLINE void add_products(const T* const (&x)[std::size_t{Tokens}],
                             const T* const (&w)[std::size_t{Outputs}], Index depth, Index n,
                             simd::Pack<T> (&sum)[std::size_t{Outputs}][std::size_t{Tokens}]) {
  using Pack = simd::Pack<T>;
  Pack token[std::size_t{Tokens}];
  GQA_UNROLL
  for (int t = 0; t < Tokens; ++t) {
    Pack lanes = load_lanes<Whole>(x[t] + depth, n);  // g++ 12 would store token[t], kept in place
    simd::keep_in_register(lanes.v);
    token[t] = lanes;
  }
  GQA_UNROLL
  for (int o = 0; o < Outputs; ++o) {
    Pack row = load_lanes<Whole>(w[o] + depth, n);
    if constexpr (Tokens > 1) simd::keep_in_register(row.v);
    GQA_UNROLL
    for (int t = 0; t < Tokens; ++t) sum[o][t] = fma(row, token[t], sum[o][t]);
  }
}

/// y[t][o] += x[t] · w[o] for a tile of which `tokens` and `outputs` are there; what is missing
/// repeats the last row, and is not stored.
template <int Tokens, int Outputs, typename T>
void add_dots(const T* x, Index x_stride, Index tokens, const T* w, Index w_stride, Index outputs,
              Index depth, T* y, Index y_stride) {
  using Pack = simd::Pack<T>;
  const T* xs[std::size_t{Tokens}];
  const T* ws[std::size_t{Outputs}];
  Pack sum[std::size_t{Outputs}][std::size_t{Tokens}];
  GQA_UNROLL
  for (int t = 0; t < Tokens; ++t) xs[t] = x + (std::min<Index>)(t, tokens - 1) * x_stride;
  GQA_UNROLL
  for (int o = 0; o < Outputs; ++o) {
    ws[o] = w + (std::min<Index>)(o, outputs - 1) * w_stride;
    GQA_UNROLL
    for (int t = 0; t < Tokens; ++t) sum[o][t] = Pack::zero();
  }
  Index i = 0;
  for (; i + Pack::size <= depth; i += Pack::size)
    add_products<true, Tokens, Outputs>(xs, ws, i, Pack::size, sum);
  if (i < depth) add_products<false, Tokens, Outputs>(xs, ws, i, depth - i, sum);

  T dots[std::size_t{Tokens}][std::size_t{Outputs}];
  GQA_UNROLL
  for (int t = 0; t < Tokens; ++t) {
    GQA_UNROLL
    for (int o = 0; o < Outputs; ++o) dots[t][o] = reduce_add(sum[o][t]);
  }
  for (Index t = 0; t < (std::min<Index>)(Tokens, tokens); ++t) {
    for (Index o = 0; o < (std::min<Index>)(Outputs, outputs); ++o)
      y[t * y_stride + o] += dots[t][o];
  }
}

/// y = x Wᵀ + bias in tiles of Tokens x Outputs.
template <int Tokens, int Outputs, typename T>
void multiply_rows_by(const T* x, Index x_stride, Index tokens, const T* w, Index depth,
                      Index outputs, const T* bias, T* y, Index y_stride) {
  for (Index t = 0; t < tokens; ++t) {
    T* const row = y + t * y_stride;
    bias ? std::copy_n(bias, outputs, row) : std::fill_n(row, outputs, T(0));
  }
  for (Index i = 0; i < depth; i += dot_depth<T>) {
    const Index count = (std::min)(dot_depth<T>, depth - i);
    for (Index o = 0; o < outputs; o += Outputs) {  // rows of W stay in L1 for all tokens
      for (Index t = 0; t < tokens; t += Tokens) {
        add_dots<Tokens, Outputs>(x + t * x_stride + i, x_stride, tokens - t, w + o * depth + i,
                                  depth, outputs - o, count, y + t * y_stride + o, y_stride);
      }
    }
  }
}

/// y = x Wᵀ + bias: x [tokens, depth] and y [tokens, outputs] of rows with the given strides, W
/// [outputs, depth] dense, bias [outputs] or null.
template <typename T>
void multiply_rows(const T* x, Index x_stride, Index tokens, const T* w, Index depth, Index outputs,
                   const T* bias, T* y, Index y_stride) {
  const auto run = [&](auto multiply) {
    multiply(x, x_stride, tokens, w, depth, outputs, bias, y, y_stride);
  };
  if (tokens == 1) return run(multiply_rows_by<1, 8, T>);  // 8 streams; 16 reach three quarters
  if constexpr (simd::registers >= 32) {
    if (tokens == 2) return run(multiply_rows_by<2, 8, T>);
    run(multiply_rows_by<4, 6, T>);  // 24 sums + 4 of x + 1 of W = 29 of 32 registers
  } else {
    if (tokens == 2 || tokens == 4) return run(multiply_rows_by<2, 4, T>);
    run(multiply_rows_by<3, 4, T>);  // 12 sums + 3 of x + 1 of W = 16
  }
}

}  // namespace GQA_ISA
}  // namespace gqa::detail
