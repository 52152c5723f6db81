// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What nearly every test and example includes, precompiled once for all of them, and promises of
// what is compiled once: the kernels (kernels.cpp), and the classes that come up in every second
// program (common.cpp). The programs themselves
// include what they use and don't know of this; tests for other instruction sets do without it.
#pragma once

#include <gtest/gtest.h>

#include <gqa/gqa.hpp>
#include <string>

// The kernels of a storage type, and of gradients of a type.
#define GQA_KERNELS_OF(declare, Storage)                                  \
  declare void run_call<KvLayout::strips, Storage>(const AttentionCall&); \
  declare void run_shared_prefix<Storage>(const AttentionCall&);          \
  declare Explanation explain_call<Storage>(const AttentionCall&, const MachineLimits&)
#define GQA_KERNELS_OF_ROWS(declare, Scalar) \
  GQA_KERNELS_OF(declare, Scalar);           \
  declare void run_call<KvLayout::rows, Scalar>(const AttentionCall&)
#define GQA_KERNELS(declare)                                    \
  GQA_KERNELS_OF_ROWS(declare, float);                          \
  GQA_KERNELS_OF_ROWS(declare, double);                         \
  GQA_KERNELS_OF_ROWS(declare, Bfloat16);                       \
  GQA_KERNELS_OF_ROWS(declare, Half);                           \
  GQA_KERNELS_OF(declare, Int8);                                \
  GQA_KERNELS_OF(declare, Int4);                                \
  declare void run_backward<float>(const BackwardCall<float>&); \
  declare void run_backward<double>(const BackwardCall<double>&)

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

// These instantiate nothing; kernels.cpp and common.cpp do.
namespace gqa {
GQA_COMMON_CLASSES(extern template);
namespace detail {
inline namespace GQA_ISA {
GQA_KERNELS(extern template);
}
}  // namespace detail
}  // namespace gqa
extern template class Eigen::ThreadPoolTempl<Eigen::StlThreadEnvironment>;
extern template class std::basic_string<char>;  // which libstdc++ promises up to C++17 only
