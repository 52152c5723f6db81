// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Chains of multiply-accumulates. An instruction that starts every cycle and takes four to six
// keeps four to six chains busy on one port, eight to twelve on two; more chains than that only
// cost registers, so a few numbers of chains are tried, and 512 bits beside 256.
#include <array>
#include <gqa/simd/arch.hpp>
#include <utility>

#include "support/probes.hpp"
#include "support/table.hpp"

namespace gqa::bench {
namespace {

/// What the compiler must not know, so that nothing is computed ahead of time.
volatile float opaque_float = 1e-3f;
volatile int opaque_int = 0x3c003c00;  // two bfloat16 of 0.0078; bytes 60, 0; words of 15360

struct F32Fma {
  using Register = simd::Pack<float>;
  static constexpr int operations = 2 * static_cast<int>(Register::size);
  Register a = Register::broadcast(1 - opaque_float), b = Register::broadcast(opaque_float);

  static Register start(int chain) { return Register::broadcast(static_cast<float>(chain)); }
  Register step(Register sum) const { return fma(sum, a, b); }
};

#if defined(GQA_ISA_AVX512)
struct F32Fma256 {
  using Register = __m256;
  static constexpr int operations = 2 * 8;
  Register a = _mm256_set1_ps(1 - opaque_float), b = _mm256_set1_ps(opaque_float);

  static Register start(int chain) { return _mm256_set1_ps(static_cast<float>(chain)); }
  Register step(Register sum) const { return _mm256_fmadd_ps(sum, a, b); }
};
#endif

#if defined(__AVX512BF16__) && defined(__AVX512VL__)
// __m512bh is made of short in one compiler and of __bf16 in another.
template <typename To, typename From>
To same_bits(From from) {
  To to;
  static_assert(sizeof to == sizeof from);
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}
struct Bf16Dot {
  using Register = __m512;
  static constexpr int operations = 2 * 32;
  __m512bh a = same_bits<__m512bh>(_mm512_set1_epi32(opaque_int));

  static Register start(int chain) { return _mm512_set1_ps(static_cast<float>(chain)); }
  Register step(Register sum) const { return _mm512_dpbf16_ps(sum, a, a); }
};
struct Bf16Dot256 {
  using Register = __m256;
  static constexpr int operations = 2 * 16;
  __m256bh a = same_bits<__m256bh>(_mm256_set1_epi32(opaque_int));

  static Register start(int chain) { return _mm256_set1_ps(static_cast<float>(chain)); }
  Register step(Register sum) const { return _mm256_dpbf16_ps(sum, a, a); }
};
#endif

#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
struct U8Dot {
  using Register = __m512i;
  static constexpr int operations = 2 * 64;
  Register a = _mm512_set1_epi32(opaque_int);

  static Register start(int chain) { return _mm512_set1_epi32(chain); }
  Register step(Register sum) const { return _mm512_dpbusd_epi32(sum, a, a); }
};
struct U8Dot256 {
  using Register = __m256i;
  static constexpr int operations = 2 * 32;
  Register a = _mm256_set1_epi32(opaque_int);

  static Register start(int chain) { return _mm256_set1_epi32(chain); }
  Register step(Register sum) const { return _mm256_dpbusd_epi32(sum, a, a); }
};
struct S16Dot {
  using Register = __m512i;
  static constexpr int operations = 2 * 32;
  Register a = _mm512_set1_epi32(opaque_int);

  static Register start(int chain) { return _mm512_set1_epi32(chain); }
  Register step(Register sum) const { return _mm512_dpwssd_epi32(sum, a, a); }
};
struct S16Dot256 {
  using Register = __m256i;
  static constexpr int operations = 2 * 16;
  Register a = _mm256_set1_epi32(opaque_int);

  static Register start(int chain) { return _mm256_set1_epi32(chain); }
  Register step(Register sum) const { return _mm256_dpwssd_epi32(sum, a, a); }
};
#endif

template <typename Op, int... Chain>
void run_chains(Index rounds, std::integer_sequence<int, Chain...>) {
  const Op op;
  typename Op::Register sum[] = {Op::start(Chain)...};  // equal chains would be merged
  for (Index i = 0; i < rounds; ++i) ((sum[Chain] = op.step(sum[Chain])), ...);
  // A copy for the compiler to believe that the sums are read: they themselves stay in registers.
  typename Op::Register result[] = {sum[Chain]...};
  asm volatile("" : : "m"(result));
}

template <typename Op, int Chains>
constexpr ComputeProbe probe() {
  return {.chains = Chains,
          .bits = static_cast<int>(sizeof(typename Op::Register)) * 8,
          .operations = static_cast<double>(Chains * Op::operations),
          .run = [](Index rounds) {
            run_chains<Op>(rounds, std::make_integer_sequence<int, Chains>{});
          }};
}

#if defined(GQA_ISA_AVX512)
constexpr std::array f32_fma_probes{probe<F32Fma, 8>(), probe<F32Fma, 12>(), probe<F32Fma, 24>(),
                                    probe<F32Fma256, 12>(), probe<F32Fma256, 20>()};
#else
constexpr std::array f32_fma_probes{probe<F32Fma, 8>(), probe<F32Fma, 10>(), probe<F32Fma, 12>()};
#endif
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
constexpr std::array bf16_dot_probes{probe<Bf16Dot, 8>(), probe<Bf16Dot, 12>(),
                                     probe<Bf16Dot, 24>(), probe<Bf16Dot256, 12>(),
                                     probe<Bf16Dot256, 24>()};
#else
constexpr std::array<ComputeProbe, 0> bf16_dot_probes{};
#endif
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
constexpr std::array u8_dot_probes{probe<U8Dot, 8>(), probe<U8Dot, 12>(), probe<U8Dot, 24>(),
                                   probe<U8Dot256, 12>(), probe<U8Dot256, 20>()};
constexpr std::array s16_dot_probes{probe<S16Dot, 8>(), probe<S16Dot, 12>(), probe<S16Dot, 24>(),
                                    probe<S16Dot256, 12>(), probe<S16Dot256, 20>()};
#else
constexpr std::array<ComputeProbe, 0> u8_dot_probes{};
constexpr std::array<ComputeProbe, 0> s16_dot_probes{};
#endif

}  // namespace

const char* name_of(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::f32_fma:
      return "f32 FMA";
    case Arithmetic::bf16_dot:
      return "VDPBF16PS";
    case Arithmetic::u8_dot:
      return "VPDPBUSD";
    case Arithmetic::s16_dot:
      return "VPDPWSSD";
  }
  return "";
}

std::string ComputeProbe::describe() const { return text("%d chains of %d bits", chains, bits); }

std::span<const ComputeProbe> compute_probes(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::f32_fma:
      return f32_fma_probes;
    case Arithmetic::bf16_dot:
      return bf16_dot_probes;
    case Arithmetic::u8_dot:
      return u8_dot_probes;
    case Arithmetic::s16_dot:
      return s16_dot_probes;
  }
  return {};
}

}  // namespace gqa::bench
