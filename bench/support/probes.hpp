// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Probes: loops that do nothing but multiply, or nothing but read. What they reach is what the
// machine can do, and kernels are judged by it; a probe that isn't the best loop there is would
// flatter them. So each limit has several, and the best one counts. The probes are compiled once
// (probes_*.cpp), everything that measures shares them.
#pragma once

#include <cstddef>
#include <gqa/core/config.hpp>
#include <span>
#include <string>

namespace gqa::bench {

/// The multiply-accumulate instructions that attention can be made of.
enum class Arithmetic {
  f32_fma,   ///< float x float + float
  bf16_dot,  ///< VDPBF16PS: pairs of bfloat16, summed in float
  u8_dot,    ///< VPDPBUSD: four u8 x s8, summed in s32
  s16_dot,   ///< VPDPWSSD: pairs of s16, summed in s32
};
inline constexpr Arithmetic all_arithmetic[] = {Arithmetic::f32_fma, Arithmetic::bf16_dot,
                                                Arithmetic::u8_dot, Arithmetic::s16_dot};

/// "f32 FMA", "VDPBF16PS" and so on.
const char* name_of(Arithmetic arithmetic);

/// A loop of independent chains of one instruction, all in registers.
struct ComputeProbe {
  int chains = 0;
  int bits = 0;           ///< of a register
  double operations = 0;  ///< of a round; a multiplication and an addition are two
  void (*run)(Index rounds) = nullptr;

  std::string describe() const;  ///< "12 chains of 512 bits"
};

/// The probes of an instruction; none where this program was compiled without it.
std::span<const ComputeProbe> compute_probes(Arithmetic arithmetic);

/// Where prefetched lines are asked to go.
enum class Hint { none, l1, l2, once };

/// A way of reading memory from end to end: cut into `streams` parts that are read side by side,
/// `burst` bytes of each in turn, prefetching `ahead` bytes further; `paced`, at two cycles a line,
/// as demand that is too fast takes the place of the processor's own prefetching, and is slower.
struct ReadPattern {
  int streams = 1;
  Index burst = 4096;
  Hint hint = Hint::none;
  Index ahead = 0;
  bool paced = false;

  std::string describe() const;  ///< "2 streams, bursts of 32 KiB, prefetch to L2 64 KiB ahead"
};

/// All that are tried.
std::span<const ReadPattern> read_patterns();

/// Reads [begin, begin + bytes), begin a multiple of 16, and returns how many bytes it read: all
/// but less than 512 of each stream.
Index read(const ReadPattern& pattern, const std::byte* begin, Index bytes);

}  // namespace gqa::bench
