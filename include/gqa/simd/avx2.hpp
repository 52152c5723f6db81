// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// simd/ops.hpp for AVX2 with FMA and F16C: 8 floats or 4 doubles.
#pragma once

#include "gqa/simd/ops.hpp"

#if defined(GQA_ISA_AVX2)  // other machines have no <immintrin.h>

#include <immintrin.h>

namespace gqa::simd {
inline namespace GQA_ISA {

template <>
struct Pack<float> {
  static constexpr Index size = 8;
  __m256 v;

  static GQA_INLINE Pack load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static GQA_INLINE Pack broadcast(float x) { return {_mm256_set1_ps(x)}; }
  static GQA_INLINE Pack zero() { return {_mm256_setzero_ps()}; }
  GQA_INLINE void store(float* p) const { _mm256_storeu_ps(p, v); }

  friend GQA_INLINE Pack operator+(Pack a, Pack b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend GQA_INLINE Pack operator-(Pack a, Pack b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend GQA_INLINE Pack operator*(Pack a, Pack b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend GQA_INLINE Pack operator/(Pack a, Pack b) { return {_mm256_div_ps(a.v, b.v)}; }
  friend GQA_INLINE Pack fma(Pack a, Pack b, Pack c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  friend GQA_INLINE Pack larger(Pack a, Pack b) { return {_mm256_max_ps(a.v, b.v)}; }
  friend GQA_INLINE Pack where_greater(Pack a, Pack b, Pack x, Pack y) {
    return {_mm256_blendv_ps(y.v, x.v, _mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ))};
  }
  friend GQA_INLINE bool any_greater(Pack a, Pack b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)) != 0;
  }
  friend GQA_INLINE float reduce_add(Pack a) {
    const __m128 x = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    const __m128 y = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
  }
  friend GQA_INLINE float reduce_max(Pack a) {
    const __m128 x = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    const __m128 y = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
  }
  friend GQA_INLINE Pack exp2(Pack x) {
    const __m256 n = _mm256_round_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 p = exp2_polynomial(Pack{_mm256_sub_ps(x.v, n)}).v;
    // 2^n by adding n to p's exponent. A NaN turns into the integer 0x80000000, which adds nothing.
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    __m256 y = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
    // Out of range (infinities included, where x - n is NaN): 0 or +inf.
    y = _mm256_andnot_ps(_mm256_cmp_ps(x.v, _mm256_set1_ps(exp2_min<float>), _CMP_LT_OQ), y);
    return {_mm256_blendv_ps(y, _mm256_set1_ps(__builtin_inff()),
                             _mm256_cmp_ps(x.v, _mm256_set1_ps(exp2_max<float>), _CMP_GE_OQ))};
  }
};

template <>
struct Pack<double> {
  static constexpr Index size = 4;
  __m256d v;

  static GQA_INLINE Pack load(const double* p) { return {_mm256_loadu_pd(p)}; }
  static GQA_INLINE Pack broadcast(double x) { return {_mm256_set1_pd(x)}; }
  static GQA_INLINE Pack zero() { return {_mm256_setzero_pd()}; }
  GQA_INLINE void store(double* p) const { _mm256_storeu_pd(p, v); }

  friend GQA_INLINE Pack operator+(Pack a, Pack b) { return {_mm256_add_pd(a.v, b.v)}; }
  friend GQA_INLINE Pack operator-(Pack a, Pack b) { return {_mm256_sub_pd(a.v, b.v)}; }
  friend GQA_INLINE Pack operator*(Pack a, Pack b) { return {_mm256_mul_pd(a.v, b.v)}; }
  friend GQA_INLINE Pack operator/(Pack a, Pack b) { return {_mm256_div_pd(a.v, b.v)}; }
  friend GQA_INLINE Pack fma(Pack a, Pack b, Pack c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
  friend GQA_INLINE Pack larger(Pack a, Pack b) { return {_mm256_max_pd(a.v, b.v)}; }
  friend GQA_INLINE Pack where_greater(Pack a, Pack b, Pack x, Pack y) {
    return {_mm256_blendv_pd(y.v, x.v, _mm256_cmp_pd(a.v, b.v, _CMP_GT_OQ))};
  }
  friend GQA_INLINE bool any_greater(Pack a, Pack b) {
    return _mm256_movemask_pd(_mm256_cmp_pd(a.v, b.v, _CMP_GT_OQ)) != 0;
  }
  friend GQA_INLINE double reduce_add(Pack a) {
    const __m128d x = _mm_add_pd(_mm256_castpd256_pd128(a.v), _mm256_extractf128_pd(a.v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)));
  }
  friend GQA_INLINE double reduce_max(Pack a) {
    const __m128d x = _mm_max_pd(_mm256_castpd256_pd128(a.v), _mm256_extractf128_pd(a.v, 1));
    return _mm_cvtsd_f64(_mm_max_sd(x, _mm_unpackhi_pd(x, x)));
  }
  friend GQA_INLINE Pack exp2(Pack x) {
    const __m256d n = _mm256_round_pd(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256d p = exp2_polynomial(Pack{_mm256_sub_pd(x.v, n)}).v;
    const __m256i exponent = _mm256_slli_epi64(_mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n)), 52);
    __m256d y = _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(p), exponent));
    y = _mm256_andnot_pd(_mm256_cmp_pd(x.v, _mm256_set1_pd(exp2_min<double>), _CMP_LT_OQ), y);
    return {_mm256_blendv_pd(y, _mm256_set1_pd(__builtin_inf()),
                             _mm256_cmp_pd(x.v, _mm256_set1_pd(exp2_max<double>), _CMP_GE_OQ))};
  }
};

GQA_INLINE void transpose(Pack<float> (&rows)[8]) {
  __m256 a[8], b[8];
  GQA_UNROLL
  for (int i = 0; i < 8; i += 2) {  // pairs of rows
    a[i] = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
    a[i + 1] = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  GQA_UNROLL
  for (int i = 0; i < 8; i += 4) {  // fours of rows: one column of each 128 bits
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  GQA_UNROLL
  for (int i = 0; i < 4; ++i) {
    rows[i].v = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    rows[i + 4].v = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}

GQA_INLINE void widen(const float* p, Pack<float> (&packs)[1]) { packs[0] = Pack<float>::load(p); }
GQA_INLINE void widen(const double* p, Pack<double> (&packs)[1]) {
  packs[0] = Pack<double>::load(p);
}
template <detail::IsHalf T>
GQA_INLINE void widen(const T* p, Pack<float> (&packs)[1]) {
  packs[0] = {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
template <detail::IsBfloat16 T>
GQA_INLINE void widen(const T* p, Pack<float> (&packs)[2]) {
  // A bfloat16 is the upper half of a float: the even element of a pair is shifted up, the odd one
  // is in place already.
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  packs[0] = {_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16))};
  packs[1] = {_mm256_castsi256_ps(
      _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
}
GQA_INLINE void widen(const Int8* p, Pack<float> (&packs)[4]) {
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  GQA_UNROLL
  for (int e = 0; e < 4; ++e) {
    packs[e] = {_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(words, 24 - 8 * e), 24))};
  }
}
GQA_INLINE void widen(const Int4* p, Pack<float> (&packs)[8]) {
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  GQA_UNROLL
  for (int e = 0; e < 8; ++e) {
    const int up = 28 - 8 * (e % 4) - 4 * (e / 4);
    packs[e] = {_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(words, up), 28))};
  }
}

}  // namespace GQA_ISA
}  // namespace gqa::simd

#endif
