// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// C += A B, the product of a projection's gradients (linear_backward.hpp). Rows of B lie along
// those of C, so lanes are columns of C, and a step of depth adds a column of A times a row of B.
//
// A task has a block of C on the stack, and copies what a chunk of depth has of A and B beside it:
// their rows lie powers of two apart, where a few of them would fill a set of the caches. Rows and
// columns that are missing at the edges are zeros in the copies, so that tiles know no edges.
// 40 KiB of stack in all (double: 32).
//
// GFLOP/s of one thread in float, Eigen's products in blocks of 64 -> these (machine and peak as in
// dot_products.hpp), dx and dW:
//
//   tokens                    8                       64                      512
//   2048 x 2048        48 ->  70, 49 -> 40    111 -> 137, 74 -> 125   122 -> 162, 83 -> 161
//   512 x 2048         90 -> 132, 50 -> 51    138 -> 182, 79 -> 131   139 -> 185, 96 -> 162
//   2048 x 2048, AVX2  38 ->  57, 44 -> 41     82 ->  92, 79 ->  92    91 -> 100, 73 -> 101
//
// Adding to C where it lies, instead of to a copy, made dW slower at most sizes.
#pragma once

#include <algorithm>

#include "gqa/simd/arch.hpp"

namespace gqa::detail {

/// The block: rows and columns of C, and steps of depth; 48 rows are whole tiles of 12 and of 6.
inline constexpr Index outer_rows = 48;
template <typename T>
inline constexpr Index outer_columns = 256 / Index{sizeof(T)};
template <typename T>
inline constexpr Index outer_depth = 256 / Index{sizeof(T)};

/// A matrix that is read [rows, columns], its columns contiguous.
template <typename T>
struct MatrixRows {
  const T* data;
  Index stride;
};

inline namespace GQA_ISA {

/// Copies [rows, columns] to [padded_rows, Width], zeros after them.
template <Index Width, typename T>
void copy_padded(const T* from, Index stride, Index rows, Index columns, Index padded_rows, T* to) {
  using Pack = simd::Pack<T>;
  for (Index r = 0; r < padded_rows; ++r, to += Width) {
    if (r < rows && columns == Width) {
      GQA_UNROLL
      for (Index i = 0; i < Width; i += Pack::size) Pack::load(from + r * stride + i).store(to + i);
    } else {
      const Index count = r < rows ? columns : 0;
      for (Index i = 0; i < count; ++i) to[i] = from[r * stride + i];
      std::fill_n(to + count, Width - count, T(0));
    }
  }
}

/// C [Rows, 2 packs] += A · B over `steps` of depth; an element of A is
/// a[row * ARow + step * AStep], rows of B and C are outer_columns apart.
template <int Rows, Index ARow, Index AStep, typename T>
void add_outer_products(const T* GQA_RESTRICT a, const T* GQA_RESTRICT b, Index steps,
                        T* GQA_RESTRICT c) {
  using Pack = simd::Pack<T>;
  Pack sum[std::size_t{Rows}][2];
  GQA_UNROLL
  for (int i = 0; i < Rows; ++i) {
    GQA_UNROLL
    for (int j = 0; j < 2; ++j) sum[i][j] = Pack::load(c + i * outer_columns<T> + j * Pack::size);
  }
  for (Index k = 0; k < steps; ++k) {
    Pack row[2];
    GQA_UNROLL
    for (int j = 0; j < 2; ++j) {
      Pack lanes = Pack::load(b + j * Pack::size);
      simd::keep_in_register(lanes.v);
      row[j] = lanes;
    }
    GQA_UNROLL
    for (int i = 0; i < Rows; ++i) {
      const Pack factor = Pack::broadcast(a[i * ARow]);
      GQA_UNROLL
      for (int j = 0; j < 2; ++j) sum[i][j] = fma(factor, row[j], sum[i][j]);
    }
    a += AStep;
    b += outer_columns<T>;
  }
  GQA_UNROLL
  for (int i = 0; i < Rows; ++i) {
    GQA_UNROLL
    for (int j = 0; j < 2; ++j) sum[i][j].store(c + i * outer_columns<T> + j * Pack::size);
  }
}

/// A block of C, at most [outer_rows, outer_columns<T>], and a chunk of A and B.
template <typename T>
class OuterProducts {
 public:
  OuterProducts(Index rows, Index columns) : rows_(rows), columns_(columns) {}

  void set_zero() { std::fill_n(c_, padded() * outer_columns<T>, T(0)); }
  void load(const T* from, Index stride) {
    copy_padded<outer_columns<T>>(from, stride, rows_, columns_, padded(), c_);
  }
  void store(T* to, Index stride) const {
    for (Index r = 0; r < rows_; ++r) {
      std::copy_n(c_ + r * outer_columns<T>, columns_, to + r * stride);
    }
  }

  /// C += A B for A [rows, depth] and B [depth, columns].
  void add(MatrixRows<T> a, MatrixRows<T> b, Index depth) {
    for (Index k = 0; k < depth; k += outer_depth<T>) {
      const Index count = (std::min)(outer_depth<T>, depth - k);
      copy_padded<outer_depth<T>>(a.data + k, a.stride, rows_, count, padded(), a_);
      copy_padded<outer_columns<T>>(b.data + k * b.stride, b.stride, count, columns_, count, b_);
      multiply<outer_depth<T>, 1>(count);
    }
  }
  /// C += Aᵀ B for A [depth, rows] and B [depth, columns].
  void add_transposed(MatrixRows<T> a, MatrixRows<T> b, Index depth) {
    for (Index k = 0; k < depth; k += outer_depth<T>) {
      const Index count = (std::min)(outer_depth<T>, depth - k);
      copy_padded<outer_rows>(a.data + k * a.stride, a.stride, count, rows_, count, a_);
      copy_padded<outer_columns<T>>(b.data + k * b.stride, b.stride, count, columns_, count, b_);
      multiply<1, outer_rows>(count);
    }
  }

 private:
  // 32 registers: 12 x 2, 24 sums + 2 of B + 1 of A = 27; 16 registers: 6 x 2 in the same way.
  // Thirds of it take what is left.
  static constexpr int tile = simd::registers >= 32 ? 12 : 6;
  static constexpr int third = tile / 3;
  static constexpr Index width = 2 * simd::Pack<T>::size;

  Index padded() const { return (rows_ + third - 1) / third * third; }

  template <Index ARow, Index AStep>
  void multiply(Index steps) {
    for (Index column = 0; column < columns_; column += width) {
      Index r = 0;
      const auto add = [&]<int Rows>() {
        add_outer_products<Rows, ARow, AStep>(a_ + r * ARow, b_ + column, steps,
                                              c_ + r * outer_columns<T> + column);
        r += Rows;
      };
      while (padded() - r >= tile) add.template operator()<tile>();
      if (padded() - r == 2 * third) add.template operator()<2 * third>();
      if (padded() - r == third) add.template operator()<third>();
    }
  }

  Index rows_;
  Index columns_;
  alignas(alignment) T a_[outer_rows * outer_depth<T>];
  alignas(alignment) T b_[outer_depth<T> * outer_columns<T>];
  alignas(alignment) T c_[outer_rows * outer_columns<T>];
};

}  // namespace GQA_ISA
}  // namespace gqa::detail
