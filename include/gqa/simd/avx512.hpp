// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// simd/ops.hpp for AVX-512 (F, DQ, BW, VL): 16 floats or 8 doubles.
//
// Some operations are written in their maskz form with all lanes chosen: for the plain one gcc 12
// warns of its own header (bug 105593). The instructions are the same.
#pragma once

#include "gqa/simd/ops.hpp"

#if defined(GQA_ISA_AVX512)  // other machines have no <immintrin.h>

// GCC 12 warns of uninitialised registers in this header, as core/eigen.hpp tells.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

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
  friend GQA_INLINE Pack larger(Pack a, Pack b) { return {_mm512_maskz_max_ps(0xffff, a.v, b.v)}; }
  friend GQA_INLINE Pack where_greater(Pack a, Pack b, Pack x, Pack y) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ), y.v, x.v)};
  }
  friend GQA_INLINE bool any_greater(Pack a, Pack b) {
    return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ) != 0;
  }
  friend GQA_INLINE float reduce_add(Pack a) {
    const __m256 w = _mm256_add_ps(low(a), high(a));
    const __m128 x = _mm_add_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1));
    const __m128 y = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
  }
  friend GQA_INLINE float reduce_max(Pack a) {
    const __m256 w = _mm256_max_ps(low(a), high(a));
    const __m128 x = _mm_max_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1));
    const __m128 y = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
  }
  friend GQA_INLINE Pack exp2(Pack x) {
    // x - f is an integer; vreduceps gives f = 0 for infinities, and vscalefps the right limits.
    const Pack f{_mm512_reduce_ps(x.v, _MM_FROUND_TO_NEAREST_INT)};
    // "Not less than", so that NaN passes.
    const __mmask16 normal = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(exp2_min<float>), _CMP_NLT_UQ);
    return {_mm512_maskz_scalef_ps(normal, exp2_polynomial(f).v, _mm512_sub_ps(x.v, f.v))};
  }

 private:
  static GQA_INLINE __m256 low(Pack a) { return _mm512_maskz_extractf32x8_ps(0xff, a.v, 0); }
  static GQA_INLINE __m256 high(Pack a) { return _mm512_maskz_extractf32x8_ps(0xff, a.v, 1); }
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
  friend GQA_INLINE Pack larger(Pack a, Pack b) { return {_mm512_maskz_max_pd(0xff, a.v, b.v)}; }
  friend GQA_INLINE Pack where_greater(Pack a, Pack b, Pack x, Pack y) {
    return {_mm512_mask_blend_pd(_mm512_cmp_pd_mask(a.v, b.v, _CMP_GT_OQ), y.v, x.v)};
  }
  friend GQA_INLINE bool any_greater(Pack a, Pack b) {
    return _mm512_cmp_pd_mask(a.v, b.v, _CMP_GT_OQ) != 0;
  }
  friend GQA_INLINE double reduce_add(Pack a) {
    const __m256d w = _mm256_add_pd(low(a), high(a));
    const __m128d x = _mm_add_pd(_mm256_castpd256_pd128(w), _mm256_extractf128_pd(w, 1));
    return _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)));
  }
  friend GQA_INLINE double reduce_max(Pack a) {
    const __m256d w = _mm256_max_pd(low(a), high(a));
    const __m128d x = _mm_max_pd(_mm256_castpd256_pd128(w), _mm256_extractf128_pd(w, 1));
    return _mm_cvtsd_f64(_mm_max_sd(x, _mm_unpackhi_pd(x, x)));
  }
  friend GQA_INLINE Pack exp2(Pack x) {
    const Pack f{_mm512_reduce_pd(x.v, _MM_FROUND_TO_NEAREST_INT)};
    const __mmask8 normal = _mm512_cmp_pd_mask(x.v, _mm512_set1_pd(exp2_min<double>), _CMP_NLT_UQ);
    return {_mm512_maskz_scalef_pd(normal, exp2_polynomial(f).v, _mm512_sub_pd(x.v, f.v))};
  }

 private:
  static GQA_INLINE __m256d low(Pack a) { return _mm512_maskz_extractf64x4_pd(0xf, a.v, 0); }
  static GQA_INLINE __m256d high(Pack a) { return _mm512_maskz_extractf64x4_pd(0xf, a.v, 1); }
};

GQA_INLINE void transpose(Pack<float> (&rows)[16]) {
  __m512 a[16], b[16];
  GQA_UNROLL
  for (int i = 0; i < 16; i += 2) {  // pairs of rows: columns 0 1 (and 2 3) of each 128 bits
    a[i] = _mm512_maskz_unpacklo_ps(0xffff, rows[i].v, rows[i + 1].v);
    a[i + 1] = _mm512_maskz_unpackhi_ps(0xffff, rows[i].v, rows[i + 1].v);
  }
  GQA_UNROLL
  for (int i = 0; i < 16; i += 4) {  // fours of rows: one column of each 128 bits
    const auto join = [](__m512 low, __m512 high, auto half) {
      const __m512d x = _mm512_castps_pd(low), y = _mm512_castps_pd(high);
      return _mm512_castpd_ps(half == 0 ? _mm512_maskz_unpacklo_pd(0xff, x, y)
                                        : _mm512_maskz_unpackhi_pd(0xff, x, y));
    };
    b[i] = join(a[i], a[i + 2], 0);
    b[i + 1] = join(a[i], a[i + 2], 1);
    b[i + 2] = join(a[i + 1], a[i + 3], 0);
    b[i + 3] = join(a[i + 1], a[i + 3], 1);
  }
  GQA_UNROLL
  for (int i = 0; i < 4; ++i) {  // 128 bits at a time: rows 0 4 8 12 of b hold columns i, i + 4, …
    const __m512 low_even = _mm512_maskz_shuffle_f32x4(0xffff, b[i], b[i + 4], 0x88);
    const __m512 low_odd = _mm512_maskz_shuffle_f32x4(0xffff, b[i], b[i + 4], 0xdd);
    const __m512 high_even = _mm512_maskz_shuffle_f32x4(0xffff, b[i + 8], b[i + 12], 0x88);
    const __m512 high_odd = _mm512_maskz_shuffle_f32x4(0xffff, b[i + 8], b[i + 12], 0xdd);
    rows[i].v = _mm512_maskz_shuffle_f32x4(0xffff, low_even, high_even, 0x88);
    rows[i + 4].v = _mm512_maskz_shuffle_f32x4(0xffff, low_odd, high_odd, 0x88);
    rows[i + 8].v = _mm512_maskz_shuffle_f32x4(0xffff, low_even, high_even, 0xdd);
    rows[i + 12].v = _mm512_maskz_shuffle_f32x4(0xffff, low_odd, high_odd, 0xdd);
  }
}

GQA_INLINE void widen(const float* p, Pack<float> (&packs)[1]) { packs[0] = Pack<float>::load(p); }
GQA_INLINE void widen(const double* p, Pack<double> (&packs)[1]) {
  packs[0] = Pack<double>::load(p);
}
template <detail::IsHalf T>
GQA_INLINE void widen(const T* p, Pack<float> (&packs)[1]) {
  packs[0] = {
      _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
template <detail::IsBfloat16 T>
GQA_INLINE void widen(const T* p, Pack<float> (&packs)[2]) {
  // A bfloat16 is the upper half of a float: the even element of a pair is shifted up, the odd one
  // is in place already.
  const __m512i pairs = _mm512_loadu_si512(p);
  packs[0] = {_mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, pairs, 16))};
  packs[1] = {_mm512_castsi512_ps(
      _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}
GQA_INLINE void widen(const Int8* p, Pack<float> (&packs)[4]) {
  const __m512i words = _mm512_loadu_si512(p);
  GQA_UNROLL
  for (unsigned e = 0; e < 4; ++e) {
    const __m512i top = _mm512_maskz_slli_epi32(0xffff, words, 24 - 8 * e);
    packs[e] = {_mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_srai_epi32(0xffff, top, 24))};
  }
}
GQA_INLINE void widen(const Int4* p, Pack<float> (&packs)[8]) {
  const __m512i words = _mm512_loadu_si512(p);
  GQA_UNROLL
  for (unsigned e = 0; e < 8; ++e) {
    const __m512i top = _mm512_maskz_slli_epi32(0xffff, words, 28 - 8 * (e % 4) - 4 * (e / 4));
    packs[e] = {_mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_srai_epi32(0xffff, top, 28))};
  }
}

/// Four bytes in every lane.
GQA_INLINE __m512i broadcast_word(const void* p) {
  std::int32_t word;
  std::memcpy(&word, p, sizeof(word));
  __m512i words = _mm512_set1_epi32(word);
  keep_in_register(words);
#if defined(__clang__) && __clang_major__ >= 16
  // clang 16 crashes where it sees that pairs of bfloat16 come from a broadcast.
  __asm__("" : "+v"(words));
#endif
  return words;
}

#if defined(__AVX512BF16__)
/// VDPBF16PS: two products a lane, summed in float; denormal numbers count as zero.
template <detail::IsBfloat16 Storage, Product product>
struct Dot<Storage, product> {
  using Factor = Storage;
  using Sum = Pack<float>;
  struct Lanes {
    __m512bh pairs;
  };

  static GQA_INLINE Lanes load(const Storage* p) {
    __m512i pairs = _mm512_loadu_si512(p);
    keep_in_register(pairs);
    return {reinterpret_cast<__m512bh>(pairs)};
  }
  static GQA_INLINE Sum add(Sum sum, const Factor* factors, const Lanes& lanes) {
    return {
        _mm512_dpbf16_ps(sum.v, lanes.pairs, reinterpret_cast<__m512bh>(broadcast_word(factors)))};
  }
  static GQA_INLINE Pack<float> result(Sum sum) { return sum; }
  static GQA_INLINE Pack<float> store(Pack<float> x, Factor* to) {
    const __m256i rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x.v));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), rounded);
    const __m512i words = _mm512_maskz_cvtepu16_epi32(0xffff, rounded);
    return {_mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, words, 16))};
  }
};
#endif

#if defined(__AVX512VNNI__)
/// VPDPBUSD: four products a lane, of unsigned and signed bytes, summed in 32 bits.
template <>
struct Dot<Int8, Product::scores> {
  using Factor = std::int8_t;
  /// 16 integers; of __m512i, gcc 12 copies the sums of a tile and spills them.
  struct Sum {
    typedef int Words __attribute__((vector_size(64)));
    Words v;
    static GQA_INLINE Sum zero() { return {Words{}}; }
  };
  struct Lanes {
    __m512i keys;  // + 128, so unsigned
  };
  static constexpr int key_bias = 128;

  static GQA_INLINE Lanes load(const Int8* p) {
    return {_mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(-128))};
  }
  static GQA_INLINE Sum add(Sum sum, const Factor* queries, const Lanes& lanes) {
    return {reinterpret_cast<Sum::Words>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum.v),
                                                             lanes.keys, broadcast_word(queries)))};
  }
  static GQA_INLINE Pack<float> result(Sum sum) {
    return {_mm512_maskz_cvtepi32_ps(0xffff, reinterpret_cast<__m512i>(sum.v))};
  }
};
template <>
struct Dot<Int8, Product::outputs> {
  using Factor = std::uint8_t;
  using Sum = Dot<Int8, Product::scores>::Sum;
  struct Lanes {
    __m512i values;
  };

  static GQA_INLINE Lanes load(const Int8* p) {
    __m512i values = _mm512_loadu_si512(p);
    keep_in_register(values);
    return {values};
  }
  static GQA_INLINE Sum add(Sum sum, const Factor* weights, const Lanes& lanes) {
    return {reinterpret_cast<Sum::Words>(_mm512_dpbusd_epi32(
        reinterpret_cast<__m512i>(sum.v), broadcast_word(weights), lanes.values))};
  }
  static GQA_INLINE Pack<float> result(Sum sum) {
    return {_mm512_maskz_cvtepi32_ps(0xffff, reinterpret_cast<__m512i>(sum.v))};
  }
  static GQA_INLINE Pack<float> store(Pack<float> x, Factor* to) {
    const __m512i integers = _mm512_maskz_cvtps_epi32(0xffff, x.v);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_maskz_cvtepi32_epi8(0xffff, integers));
    return {_mm512_maskz_cvtepi32_ps(0xffff, integers)};
  }
};

/// Int4 becomes the bytes of two such products in registers, in three instructions.
template <>
struct Dot<Int4, Product::scores> {
  using Factor = std::int8_t;
  using Sum = Dot<Int8, Product::scores>::Sum;
  struct Lanes {
    __m512i keys[2];  // + 8, so unsigned
  };
  static constexpr int key_bias = 8;

  static GQA_INLINE Lanes load(const Int4* p) {
    const __m512i pairs = _mm512_loadu_si512(p);
    return {{lower(pairs), lower(_mm512_maskz_srli_epi32(0xffff, pairs, 4))}};
  }
  static GQA_INLINE Sum add(Sum sum, const Factor* queries, const Lanes& lanes) {
    sum.v = reinterpret_cast<Sum::Words>(_mm512_dpbusd_epi32(
        reinterpret_cast<__m512i>(sum.v), lanes.keys[0], broadcast_word(queries)));
    sum.v = reinterpret_cast<Sum::Words>(_mm512_dpbusd_epi32(
        reinterpret_cast<__m512i>(sum.v), lanes.keys[1], broadcast_word(queries + 4)));
    return sum;
  }
  static GQA_INLINE Pack<float> result(Sum sum) {
    return {_mm512_maskz_cvtepi32_ps(0xffff, reinterpret_cast<__m512i>(sum.v))};
  }

 private:
  /// (x ^ 8) & 15 of each byte.
  static GQA_INLINE __m512i lower(__m512i x) {
    return _mm512_maskz_ternarylogic_epi32(0xffff, x, _mm512_set1_epi8(8), _mm512_set1_epi8(15),
                                           0x28);
  }
};
template <>
struct Dot<Int4, Product::outputs> {
  using Factor = std::uint8_t;
  using Sum = Dot<Int8, Product::scores>::Sum;
  struct Lanes {
    __m512i values[2];  // times 16: the four bits stand where a byte's sign is
  };

  static GQA_INLINE Lanes load(const Int4* p) {
    const __m512i pairs = _mm512_loadu_si512(p), upper = _mm512_set1_epi8(-16);
    return {{_mm512_and_si512(_mm512_maskz_slli_epi32(0xffff, pairs, 4), upper),
             _mm512_and_si512(pairs, upper)}};
  }
  static GQA_INLINE Sum add(Sum sum, const Factor* weights, const Lanes& lanes) {
    sum.v = reinterpret_cast<Sum::Words>(_mm512_dpbusd_epi32(
        reinterpret_cast<__m512i>(sum.v), broadcast_word(weights), lanes.values[0]));
    sum.v = reinterpret_cast<Sum::Words>(_mm512_dpbusd_epi32(
        reinterpret_cast<__m512i>(sum.v), broadcast_word(weights + 4), lanes.values[1]));
    return sum;
  }
  static GQA_INLINE Pack<float> result(Sum sum) {
    const Pack<float> sixteenfold{
        _mm512_maskz_cvtepi32_ps(0xffff, reinterpret_cast<__m512i>(sum.v))};
    return sixteenfold * Pack<float>::broadcast(0.0625f);
  }
  static GQA_INLINE Pack<float> store(Pack<float> x, Factor* to) {
    return Dot<Int8, Product::outputs>::store(x, to);
  }
};
#endif

}  // namespace GQA_ISA
}  // namespace gqa::simd

#endif
