// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What nearly every test and example includes, precompiled once for all of them, and promises of
// what is compiled once: the register tiles, the bulk of a kernel's code (tiles.cpp), and the
// classes and calls that come up in every second program (common.cpp). The programs themselves
// include what they use and don't know of this; tests for other instruction sets do without it.
#pragma once

#include <gtest/gtest.h>

#include <gqa/gqa.hpp>
#include <string>

#define GQA_TILES_OF(declare, Storage, T)                                                        \
  declare void multiply_keys(Index, const StripLayout<Storage>&, const QueryFactor<Storage>*,    \
                             const Storage*, int, int, T*, Prefetch);                            \
  declare void multiply_values(Index, const StripLayout<Storage>&, const WeightFactor<Storage>*, \
                               const Storage*, Index, Index, Index, Index, T*, const T*, Prefetch)
#define GQA_TILES(declare)                \
  GQA_TILES_OF(declare, float, float);    \
  GQA_TILES_OF(declare, double, double);  \
  GQA_TILES_OF(declare, bfloat16, float); \
  GQA_TILES_OF(declare, half, float);     \
  GQA_TILES_OF(declare, Int8, float);     \
  GQA_TILES_OF(declare, Int4, float)

#define GQA_COMMON_CLASSES_OF(declare, T) \
  declare class RopeTable<T>;             \
  declare class AttentionWeights<T>;      \
  declare class MultiHeadAttention<T>;    \
  GQA_COMMON_CACHE(declare, T)
#define GQA_COMMON_CACHE(declare, Storage)                              \
  declare class detail::StripCache<KvCache<Storage>, Storage, Heads<>>; \
  declare class KvCache<Storage>
#define GQA_COMMON_CLASSES(declare)       \
  GQA_COMMON_CLASSES_OF(declare, float);  \
  GQA_COMMON_CLASSES_OF(declare, double); \
  GQA_COMMON_CACHE(declare, bfloat16);    \
  GQA_COMMON_CACHE(declare, half)

#define GQA_COMMON_CALL(declare, T, Source, ...) \
  declare void run_call(const Call<T, T, Source, Rules<__VA_ARGS__>>&, const Serial&)
#define GQA_COMMON_CALLS(declare)                                 \
  GQA_COMMON_CALL(declare, float, RowsKv<float>, Causal);         \
  GQA_COMMON_CALL(declare, float, RowsKv<float>, Causal, Scale);  \
  GQA_COMMON_CALL(declare, float, KvCache<float>, Causal);        \
  GQA_COMMON_CALL(declare, float, KvCache<float>, Causal, Scale); \
  GQA_COMMON_CALL(declare, double, RowsKv<double>, Causal, Scale)

// These instantiate nothing; tiles.cpp and common.cpp do.
namespace gqa {
inline namespace GQA_ISA {
GQA_TILES(extern template);
}
GQA_COMMON_CLASSES(extern template);
namespace detail {
inline namespace GQA_ISA {
GQA_COMMON_CALLS(extern template);
}
}  // namespace detail
}  // namespace gqa
extern template class Eigen::ThreadPoolTempl<Eigen::StlThreadEnvironment>;
extern template class std::basic_string<char>;  // which libstdc++ promises up to C++17 only
