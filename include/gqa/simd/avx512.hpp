// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// simd/ops.hpp for AVX-512 (F, DQ, BW, VL): 16 floats or 8 doubles.
#pragma once

#include <immintrin.h>

#include "gqa/simd/ops.hpp"

namespace gqa::simd {
inline namespace GQA_ISA {

template <>
struct Pack<float> {
  static constexpr Index size = 16;
  __m512 v;

  static GQA_INLINE Pack load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static GQA_INLINE Pack broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static GQA_INLINE Pack zero() { return {_mm512_setzero_ps()}; }
  GQA_INLINE void store(float* p) const { _mm512_storeu_ps(p, v); }

  friend GQA_INLINE Pack operator+(Pack a, Pack b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend GQA_INLINE Pack operator-(Pack a, Pack b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend GQA_INLINE Pack operator*(Pack a, Pack b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend GQA_INLINE Pack operator/(Pack a, Pack b) { return {_mm512_div_ps(a.v, b.v)}; }
  friend GQA_INLINE Pack fma(Pack a, Pack b, Pack c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  friend GQA_INLINE Pack max(Pack a, Pack b) { return {_mm512_max_ps(a.v, b.v)}; }
  friend GQA_INLINE bool any_greater(Pack a, Pack b) {
    return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ) != 0;
  }
  friend GQA_INLINE float reduce_add(Pack a) { return _mm512_reduce_add_ps(a.v); }
  friend GQA_INLINE float reduce_max(Pack a) { return _mm512_reduce_max_ps(a.v); }
  friend GQA_INLINE Pack exp2(Pack x) {
    // x - f is an integer; vreduceps gives f = 0 for infinities, and vscalefps the right limits.
    const Pack f{_mm512_reduce_ps(x.v, _MM_FROUND_TO_NEAREST_INT)};
    // "Not less than", so that NaN passes.
    const __mmask16 normal =
        _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(exp2_min<float>), _CMP_NLT_UQ);
    return {_mm512_maskz_scalef_ps(normal, exp2_polynomial(f).v, _mm512_sub_ps(x.v, f.v))};
  }
};

template <>
struct Pack<double> {
  static constexpr Index size = 8;
  __m512d v;

  static GQA_INLINE Pack load(const double* p) { return {_mm512_loadu_pd(p)}; }
  static GQA_INLINE Pack broadcast(double x) { return {_mm512_set1_pd(x)}; }
  static GQA_INLINE Pack zero() { return {_mm512_setzero_pd()}; }
  GQA_INLINE void store(double* p) const { _mm512_storeu_pd(p, v); }

  friend GQA_INLINE Pack operator+(Pack a, Pack b) { return {_mm512_add_pd(a.v, b.v)}; }
  friend GQA_INLINE Pack operator-(Pack a, Pack b) { return {_mm512_sub_pd(a.v, b.v)}; }
  friend GQA_INLINE Pack operator*(Pack a, Pack b) { return {_mm512_mul_pd(a.v, b.v)}; }
  friend GQA_INLINE Pack operator/(Pack a, Pack b) { return {_mm512_div_pd(a.v, b.v)}; }
  friend GQA_INLINE Pack fma(Pack a, Pack b, Pack c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
  friend GQA_INLINE Pack max(Pack a, Pack b) { return {_mm512_max_pd(a.v, b.v)}; }
  friend GQA_INLINE bool any_greater(Pack a, Pack b) {
    return _mm512_cmp_pd_mask(a.v, b.v, _CMP_GT_OQ) != 0;
  }
  friend GQA_INLINE double reduce_add(Pack a) { return _mm512_reduce_add_pd(a.v); }
  friend GQA_INLINE double reduce_max(Pack a) { return _mm512_reduce_max_pd(a.v); }
  friend GQA_INLINE Pack exp2(Pack x) {
    const Pack f{_mm512_reduce_pd(x.v, _MM_FROUND_TO_NEAREST_INT)};
    const __mmask8 normal =
        _mm512_cmp_pd_mask(x.v, _mm512_set1_pd(exp2_min<double>), _CMP_NLT_UQ);
    return {_mm512_maskz_scalef_pd(normal, exp2_polynomial(f).v, _mm512_sub_pd(x.v, f.v))};
  }
};

GQA_INLINE void widen(const float* p, Pack<float> (&packs)[1]) { packs[0] = Pack<float>::load(p); }
GQA_INLINE void widen(const double* p, Pack<double> (&packs)[1]) {
  packs[0] = Pack<double>::load(p);
}
GQA_INLINE void widen(const half* p, Pack<float> (&packs)[1]) {
  packs[0] = {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
GQA_INLINE void widen(const bfloat16* p, Pack<float> (&packs)[2]) {
  // A bfloat16 is the upper half of a float: the even element of a pair is shifted up, the odd one
  // is in place already.
  const __m512i pairs = _mm512_loadu_si512(p);
  packs[0] = {_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16))};
  packs[1] = {_mm512_castsi512_ps(
      _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}

}  // namespace GQA_ISA
}  // namespace gqa::simd
