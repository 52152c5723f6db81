// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The register tile: C [rows, lanes] (+)= A [rows, depth] · B, B being strips. Both products of
// attention are this one: S = Q Kᵀ has keys as lanes and channels as depth, O += P V has channels
// as lanes and keys as depth. The order of sums of an element of C is the order of depth, whatever
// the tile, so that a row's bits don't depend on the rows beside it.
#pragma once

#include <utility>

#include "gqa/layout/strips.hpp"
#include "gqa/simd/arch.hpp"

namespace gqa {
inline namespace GQA_ISA {

/// Rows of the largest tile. 32 registers: 12 x 2, 24 accumulators + 2 of B + 1 of A = 27; 16
/// registers: 6 x 2 in the same way.
inline constexpr int max_tile_rows = simd::registers >= 32 ? 12 : 6;

/// Registers per row of a tile: few rows need more of them, to have enough sums in flight.
constexpr int tile_registers(int rows) { return rows <= (simd::registers >= 32 ? 6 : 2) ? 4 : 2; }

/// What a product brings to L2 while it reads B: the lines that are `ahead` bytes after what is
/// read, except those whose address has one of the bits of `skip`: tiles of two to few_rows rows on
/// one strip heed that.
struct Prefetch {
  std::uintptr_t ahead = 0;
  std::uintptr_t skip = 0;
};
/// Of so many rows at most, the processor sees far enough ahead to read while it multiplies.
inline constexpr int few_rows = 5;

/// How rows [0, rows) are cut into tiles of nearly the same height.
class RowTiles {
 public:
  explicit RowTiles(Index rows)
      : count_(ceil_div(rows, max_tile_rows)), height_(rows / count_), taller_(rows % count_) {}

  Index count() const { return count_; }
  Index begin(Index tile) const { return tile * height_ + (std::min)(tile, taller_); }
  Index height(Index tile) const { return height_ + (tile < taller_ ? 1 : 0); }

 private:
  Index count_;
  Index height_;
  Index taller_;  // tiles with a row more
};

/// Where A's factors of a row and a step of depth are: a[row * Row + step * Depth] and the
/// packing<Storage> - 1 after it; known at compile time, so that a tile needs one pointer for A.
template <Index Row, Index Depth>
struct Step {
  static constexpr Index row = Row;
  static constexpr Index depth = Depth;
};

/// What queries and weights are kept as, to be multiplied with keys and values.
template <typename Storage>
using QueryFactor = simd::Factor<Storage, Product::scores>;
template <typename Storage>
using WeightFactor = simd::Factor<Storage, Product::outputs>;

/// C = A · B (scores) or C += A · B (outputs) for Rows rows and Registers packs of lanes. A and B
/// are `steps` steps of packing<Storage> depths each; in B, `b_step` objects from a step to the
/// next, `b_strip` from a strip to the next. Integer weights are multiplied with a row's `scale`.
template <int Rows, int Registers, typename A, Product product, typename Storage, typename T>
void multiply(const simd::Factor<Storage, product>* GQA_RESTRICT a, const Storage* GQA_RESTRICT b,
              Index b_step, Index b_strip, Index steps, T* GQA_RESTRICT c, Index c_row,
              const std::type_identity_t<T>* scale, Prefetch prefetch) {
  using Pack = simd::Pack<T>;
  using Dot = simd::Dot<Storage, product>;
  constexpr bool integers = is_quantized<Storage>;
  constexpr Index n = lane_objects<Storage>;
  constexpr Index per_strip = strip_width / Pack::size;
  constexpr bool may_skip = Rows > 1 && Rows <= few_rows && Registers <= per_strip;
  typename Dot::Sum sum[std::size_t{Rows}][std::size_t{Registers}];
  GQA_UNROLL
  for (int i = 0; i < Rows; ++i) {
    GQA_UNROLL
    for (int j = 0; j < Registers; ++j) {
      if constexpr (product == Product::outputs && !integers) {
        sum[i][j] = Pack::load(c + i * c_row + j * Pack::size);
      } else {
        sum[i][j] = Dot::Sum::zero();
      }
    }
  }
  for (Index k = 0; k < steps; ++k) {
    typename Dot::Lanes lanes[std::size_t{Registers}];
    const bool prefetches =
        !may_skip || ((reinterpret_cast<std::uintptr_t>(b) + prefetch.ahead) & prefetch.skip) == 0;
    GQA_UNROLL
    for (int j = 0; j < Registers; ++j) {
      const Storage* lane = b + j / per_strip * b_strip + j % per_strip * Pack::size * n;
      lanes[j] = Dot::load(lane);
      constexpr Index line = alignment / sizeof(Storage);
      if (prefetches && j % per_strip * Pack::size * n % line == 0) {
        simd::prefetch(lane, prefetch.ahead);
      }
    }
    GQA_UNROLL
    for (int i = 0; i < Rows; ++i) {
      GQA_UNROLL
      for (int j = 0; j < Registers; ++j) {
        sum[i][j] = Dot::add(sum[i][j], a + i * A::row, lanes[j]);
      }
    }
    a += A::depth;
    b += b_step;
  }
  GQA_UNROLL
  for (int i = 0; i < Rows; ++i) {
    GQA_UNROLL
    for (int j = 0; j < Registers; ++j) {
      T* to = c + i * c_row + j * Pack::size;
      Pack result = Dot::result(sum[i][j]);
      if constexpr (product == Product::outputs && integers) {
        result = fma(result, Pack::broadcast(scale[i]), Pack::load(to));
      }
      result.store(to);
    }
  }
}

/// Calls f.operator()<n>() for a run-time 1 <= n <= max_tile_rows.
template <typename F>
GQA_INLINE void with_rows(Index n, F f) {
  [&]<int... before>(std::integer_sequence<int, before...>) {
    (void)((n == before + 1 && (f.template operator()<before + 1>(), true)) || ...);
  }(std::make_integer_sequence<int, max_tile_rows>{});
}

/// multiply_keys() for a number of rows known at compile time.
template <int Rows, typename Storage, typename T>
void multiply_keys(const StripLayout<Storage>& layout, const QueryFactor<Storage>* q,
                   const Storage* block, int strip_begin, int strip_end, T* s, Prefetch prefetch) {
  constexpr Index p = packing<Storage>, n = lane_objects<Storage>;
  constexpr int per_strip = static_cast<int>(strip_width / simd::Pack<T>::size);
  constexpr int wide = tile_registers(Rows);
  const Index strip = layout.key_strip_elements();
  const Index steps = layout.padded_head_dim() / p;
  if constexpr (wide > per_strip) {  // a tile across both strips
    if (strip_begin == 0 && strip_end == 2) {
      multiply<Rows, wide, Step<p, Rows * p>, Product::scores>(
          q, block, strip_width * n, strip, steps, s, block_keys, nullptr, prefetch);
      return;
    }
  }
  constexpr int registers = (std::min)(wide, per_strip);
  for (int i = strip_begin; i < strip_end; ++i) {
    for (int r = 0; r < per_strip; r += registers) {
      const Index lane = r * simd::Pack<T>::size;
      multiply<Rows, registers, Step<p, Rows * p>, Product::scores>(
          q, block + i * strip + lane * n, strip_width * n, strip, steps,
          s + i * strip_width + lane, block_keys, nullptr, prefetch);
    }
  }
}

/// multiply_values() for a number of rows known at compile time.
template <int Rows, typename Storage, typename T>
void multiply_values(const StripLayout<Storage>& layout, const WeightFactor<Storage>* weights,
                     const Storage* block, Index key_begin, Index key_end, Index begin, Index end,
                     T* out, const T* scale, Prefetch prefetch) {
  constexpr Index p = packing<Storage>, n = lane_objects<Storage>;
  constexpr Index size = simd::Pack<T>::size;
  constexpr int per_strip = static_cast<int>(strip_width / size);
  constexpr int wide = tile_registers(Rows);
  using A = Step<block_keys, p>;
  const Index steps = (key_end - key_begin) / p;
  const Index out_row = layout.padded_value_dim();
  const WeightFactor<Storage>* a = weights + key_begin;
  const auto at = [&](Index channel) { return block + layout.value_offset(key_begin, channel); };
  Index channel = begin;
  if constexpr (wide > per_strip) {  // tiles across two strips
    for (; channel + 2 * strip_width <= end; channel += 2 * strip_width) {
      multiply<Rows, wide, A, Product::outputs>(a, at(channel), strip_width * n,
                                                layout.value_strip_elements(), steps, out + channel,
                                                out_row, scale, prefetch);
    }
  }
  constexpr int registers = (std::min)(wide, per_strip);
  for (; channel + strip_width <= end; channel += strip_width) {
    for (Index lane = 0; lane < strip_width; lane += registers * size) {
      multiply<Rows, registers, A, Product::outputs>(a, at(channel) + lane * n, strip_width * n, 0,
                                                     steps, out + channel + lane, out_row, scale,
                                                     prefetch);
    }
  }
  constexpr int narrow = (std::min)(registers, per_strip / 2);  // the last strip, 16 wide
  for (Index lane = 0; channel + lane < end; lane += narrow * size) {
    multiply<Rows, narrow, A, Product::outputs>(a, at(channel) + lane * n, strip_width / 2 * n, 0,
                                                steps, out + channel + lane, out_row, scale,
                                                prefetch);
  }
}

/// S = Q Kᵀ: scores of a tile's query rows, packed as [steps][rows][p], with the strips
/// [strip_begin, strip_end) of a block's keys, into s [rows][64].
template <typename Storage, typename T>
void multiply_keys(Index rows, const StripLayout<Storage>& layout, const QueryFactor<Storage>* q,
                   const Storage* block, int strip_begin, int strip_end, T* s, Prefetch prefetch) {
  with_rows(rows, [&]<int Rows>() {
    multiply_keys<Rows>(layout, q, block, strip_begin, strip_end, s, prefetch);
  });
}

/// O += P V in channels [begin, end), multiples of 32 or the padded value_dim: adds the values of
/// keys [key_begin, key_end) of a block, multiples of 8, weighted with weights [rows][64], to out
/// [rows][padded value_dim]. Integer weights are multiplied with scale [rows].
template <typename Storage, typename T>
void multiply_values(Index rows, const StripLayout<Storage>& layout,
                     const WeightFactor<Storage>* weights, const Storage* block, Index key_begin,
                     Index key_end, Index begin, Index end, T* out, const T* scale,
                     Prefetch prefetch) {
  with_rows(rows, [&]<int Rows>() {
    multiply_values<Rows>(layout, weights, block, key_begin, key_end, begin, end, out, scale,
                          prefetch);
  });
}

/// Are n numbers, a multiple of a pack, all finite?
template <typename T>
bool all_finite(const T* x, Index n) {
  using Pack = simd::Pack<T>;
  Pack sum = Pack::zero();  // of x · 0, which is NaN for infinities, too
  for (Index i = 0; i < n; i += Pack::size) sum = fma(Pack::load(x + i), Pack::zero(), sum);
  return reduce_add(sum) == 0;
}

/// Are all values of a block's keys [begin, begin + 32) finite? Not for quantised storage.
template <typename Storage>
bool finite_values(const StripLayout<Storage>& layout, const Storage* block, Index begin) {
  using Pack = simd::Pack<AccumulatorOf<Storage>>;
  constexpr int chains = 4;  // one would wait for itself
  Pack sums[chains];         // of x · 0, which is NaN for infinities, too
  for (Pack& sum : sums) sum = Pack::zero();
  for (Index c = 0; c < layout.padded_value_dim(); c += strip_width) {
    const Index elements = strip_width * layout.value_strip_width(c / strip_width);
    const Storage* v = block + layout.value_offset(begin, c);
    constexpr Index step = Pack::size * packing<Storage>;
    for (Index i = 0; i < elements; i += chains * step) {
      GQA_UNROLL
      for (int chain = 0; chain < chains; ++chain) {
        Pack x[packing<Storage>];
        simd::widen(v + i + chain * step, x);
        for (const Pack& lanes : x) sums[chain] = fma(lanes, Pack::zero(), sums[chain]);
      }
    }
  }
  const Pack sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return reduce_add(sum) == 0;
}

}  // namespace GQA_ISA
}  // namespace gqa
