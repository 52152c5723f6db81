// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// simd/ops.hpp for AArch64's Advanced SIMD (NEON), of which every such machine has all that is used
// here: 4 floats or 2 doubles, 32 registers. Little-endian, so that the first element of a pair of
// bfloat16 is the lower half of its word.
#pragma once

#include "gqa/simd/ops.hpp"

#if defined(GQA_ISA_NEON)  // other machines have no <arm_neon.h>

#include <arm_neon.h>

#include <limits>

namespace gqa::simd {
inline namespace GQA_ISA {

template <>
struct Pack<float> {
  static constexpr Index size = 4;
  float32x4_t v;

  static GQA_INLINE Pack load(const float* p) { return {vld1q_f32(p)}; }
  static GQA_INLINE Pack broadcast(float x) { return {vdupq_n_f32(x)}; }
  static GQA_INLINE Pack zero() { return broadcast(0); }
  GQA_INLINE void store(float* p) const { vst1q_f32(p, v); }

  friend GQA_INLINE Pack operator+(Pack a, Pack b) { return {vaddq_f32(a.v, b.v)}; }
  friend GQA_INLINE Pack operator-(Pack a, Pack b) { return {vsubq_f32(a.v, b.v)}; }
  friend GQA_INLINE Pack operator*(Pack a, Pack b) { return {vmulq_f32(a.v, b.v)}; }
  friend GQA_INLINE Pack operator/(Pack a, Pack b) { return {vdivq_f32(a.v, b.v)}; }
  friend GQA_INLINE Pack fma(Pack a, Pack b, Pack c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
  friend GQA_INLINE Pack larger(Pack a, Pack b) {
    // FMAX gives NaN for a NaN on either side, FMAXNM the number: neither is the contract's.
    return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)};
  }
  friend GQA_INLINE Pack where_greater(Pack a, Pack b, Pack x, Pack y) {
    return {vbslq_f32(vcgtq_f32(a.v, b.v), x.v, y.v)};
  }
  friend GQA_INLINE bool any_greater(Pack a, Pack b) {
    return vmaxvq_u32(vcgtq_f32(a.v, b.v)) != 0;
  }
  friend GQA_INLINE float reduce_add(Pack a) {
    return vpadds_f32(vadd_f32(vget_low_f32(a.v), vget_high_f32(a.v)));
  }
  friend GQA_INLINE float reduce_max(Pack a) { return vmaxnmvq_f32(a.v); }
  friend GQA_INLINE Pack exp2(Pack x) {
    const float32x4_t n = vrndnq_f32(x.v);
    const float32x4_t p = exp2_polynomial(Pack{vsubq_f32(x.v, n)}).v;
    // 2^n by adding n to p's exponent. A NaN turns into the integer 0, which adds nothing.
    const int32x4_t exponent = vshlq_n_s32(vcvtq_s32_f32(n), 23);
    const float32x4_t y = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), exponent));
    // Out of range (infinities included, where x - n is NaN): 0 or +inf.
    const uint32x4_t too_low = vcltq_f32(x.v, vdupq_n_f32(exp2_min<float>));
    const uint32x4_t too_high = vcgeq_f32(x.v, vdupq_n_f32(exp2_max<float>));
    const float32x4_t infinity = vdupq_n_f32(std::numeric_limits<float>::infinity());
    return {vbslq_f32(too_high, infinity,
                      vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), too_low)))};
  }
};

template <>
struct Pack<double> {
  static constexpr Index size = 2;
  float64x2_t v;

  static GQA_INLINE Pack load(const double* p) { return {vld1q_f64(p)}; }
  static GQA_INLINE Pack broadcast(double x) { return {vdupq_n_f64(x)}; }
  static GQA_INLINE Pack zero() { return broadcast(0); }
  GQA_INLINE void store(double* p) const { vst1q_f64(p, v); }

  friend GQA_INLINE Pack operator+(Pack a, Pack b) { return {vaddq_f64(a.v, b.v)}; }
  friend GQA_INLINE Pack operator-(Pack a, Pack b) { return {vsubq_f64(a.v, b.v)}; }
  friend GQA_INLINE Pack operator*(Pack a, Pack b) { return {vmulq_f64(a.v, b.v)}; }
  friend GQA_INLINE Pack operator/(Pack a, Pack b) { return {vdivq_f64(a.v, b.v)}; }
  friend GQA_INLINE Pack fma(Pack a, Pack b, Pack c) { return {vfmaq_f64(c.v, a.v, b.v)}; }
  friend GQA_INLINE Pack larger(Pack a, Pack b) {
    return {vbslq_f64(vcgtq_f64(a.v, b.v), a.v, b.v)};
  }
  friend GQA_INLINE Pack where_greater(Pack a, Pack b, Pack x, Pack y) {
    return {vbslq_f64(vcgtq_f64(a.v, b.v), x.v, y.v)};
  }
  friend GQA_INLINE bool any_greater(Pack a, Pack b) {
    return vmaxvq_u32(vreinterpretq_u32_u64(vcgtq_f64(a.v, b.v))) != 0;
  }
  friend GQA_INLINE double reduce_add(Pack a) { return vpaddd_f64(a.v); }
  friend GQA_INLINE double reduce_max(Pack a) { return vmaxnmvq_f64(a.v); }
  friend GQA_INLINE Pack exp2(Pack x) {
    const float64x2_t n = vrndnq_f64(x.v);
    const float64x2_t p = exp2_polynomial(Pack{vsubq_f64(x.v, n)}).v;
    const int64x2_t exponent = vshlq_n_s64(vcvtq_s64_f64(n), 52);
    const float64x2_t y = vreinterpretq_f64_s64(vaddq_s64(vreinterpretq_s64_f64(p), exponent));
    const uint64x2_t too_low = vcltq_f64(x.v, vdupq_n_f64(exp2_min<double>));
    const uint64x2_t too_high = vcgeq_f64(x.v, vdupq_n_f64(exp2_max<double>));
    const float64x2_t infinity = vdupq_n_f64(std::numeric_limits<double>::infinity());
    return {vbslq_f64(too_high, infinity,
                      vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(y), too_low)))};
  }
};

GQA_INLINE void transpose(Pack<float> (&rows)[4]) {
  const float32x4_t a = vzip1q_f32(rows[0].v, rows[2].v), b = vzip2q_f32(rows[0].v, rows[2].v);
  const float32x4_t c = vzip1q_f32(rows[1].v, rows[3].v), d = vzip2q_f32(rows[1].v, rows[3].v);
  rows[0].v = vzip1q_f32(a, c);
  rows[1].v = vzip2q_f32(a, c);
  rows[2].v = vzip1q_f32(b, d);
  rows[3].v = vzip2q_f32(b, d);
}

GQA_INLINE void widen(const float* p, Pack<float> (&packs)[1]) { packs[0] = Pack<float>::load(p); }
GQA_INLINE void widen(const double* p, Pack<double> (&packs)[1]) {
  packs[0] = Pack<double>::load(p);
}
template <detail::IsHalf T>
GQA_INLINE void widen(const T* p, Pack<float> (&packs)[1]) {
  float16x4_t halves;
  std::memcpy(&halves, p, sizeof halves);
  packs[0] = {vcvt_f32_f16(halves)};
}
template <detail::IsBfloat16 T>
GQA_INLINE void widen(const T* p, Pack<float> (&packs)[2]) {
  // A bfloat16 is the upper half of a float: the even element of a pair is shifted up, the odd one
  // is in place already.
  uint32x4_t pairs;
  std::memcpy(&pairs, p, sizeof pairs);
  packs[0] = {vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16))};
  packs[1] = {vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000u)))};
}

GQA_INLINE void widen(const Int8* p, Pack<float> (&packs)[4]) {
  int8x16_t bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  const int32x4_t words = vreinterpretq_s32_s8(bytes);
  packs[0] = {vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(words, 24), 24))};
  packs[1] = {vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(words, 16), 24))};
  packs[2] = {vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(words, 8), 24))};
  packs[3] = {vcvtq_f32_s32(vshrq_n_s32(words, 24))};
}
GQA_INLINE void widen(const Int4* p, Pack<float> (&packs)[8]) {
  int32x4_t words;
  std::memcpy(&words, p, sizeof words);
  GQA_UNROLL
  for (int e = 0; e < 8; ++e) {
    const int32x4_t up = vdupq_n_s32(28 - 8 * (e % 4) - 4 * (e / 4));
    packs[e] = {vcvtq_f32_s32(vshrq_n_s32(vshlq_s32(words, up), 28))};
  }
}

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
/// BFDOT: two products a lane, summed in float; sums are rounded to odd (if the last bit is 0 and
/// anything was cut off, it becomes 1), and denormal numbers count as zero.
template <detail::IsBfloat16 Storage, Product product>
struct Dot<Storage, product> {
  using Factor = Storage;
  using Sum = Pack<float>;
  struct Lanes {
    bfloat16x8_t pairs;
  };

  static GQA_INLINE Lanes load(const Storage* p) {
    Lanes lanes;
    std::memcpy(&lanes.pairs, p, sizeof lanes.pairs);
    return lanes;
  }
  static GQA_INLINE Sum add(Sum sum, const Factor* factors, const Lanes& lanes) {
    std::uint32_t pair;
    std::memcpy(&pair, factors, sizeof pair);
    return {vbfdotq_f32(sum.v, lanes.pairs, vreinterpretq_bf16_u32(vdupq_n_u32(pair)))};
  }
  static GQA_INLINE Pack<float> result(Sum sum) { return sum; }
  static GQA_INLINE Pack<float> store(Pack<float> x, Factor* to) {
    const uint16x4_t rounded = vreinterpret_u16_bf16(vcvt_bf16_f32(x.v));
    std::memcpy(static_cast<void*>(to), &rounded, sizeof rounded);
    return {vreinterpretq_f32_u32(vshll_n_u16(rounded, 16))};
  }
};
#endif

}  // namespace GQA_ISA
}  // namespace gqa::simd

#endif
