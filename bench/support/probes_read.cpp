// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Reading memory as fast as the machine can. Which way is the fastest depends on the machine and on
// the level of memory: the processor's own prefetching is stopped by every 4 KiB page, and an
// explicit prefetch may reach further, but costs an instruction per line. Hence the list of
// patterns.
#include <algorithm>
#include <array>

#include "support/probes.hpp"
#include "support/table.hpp"

namespace gqa::bench {
namespace {

#if defined(GQA_ISA_AVX512)
constexpr Index word_bytes = 64;
#elif defined(GQA_ISA_AVX2)
constexpr Index word_bytes = 32;
#else
constexpr Index word_bytes = 16;
#endif
// Integers, since bytes of other types read as floats may be denormal numbers, which are slow to
// add.
using Word = long long __attribute__((vector_size(word_bytes), aligned(16), may_alias));

constexpr Index line = 64;
constexpr Index step = 8 * line;  // bytes of one turn of the loop

template <Hint H>
GQA_INLINE void prefetch(const std::byte* p) {
  if constexpr (H == Hint::l1) __builtin_prefetch(p, 0, 3);
  if constexpr (H == Hint::l2) __builtin_prefetch(p, 0, 2);
  if constexpr (H == Hint::once) __builtin_prefetch(p, 0, 0);
}

template <Hint H, bool Paced>
Index read_streams(const ReadPattern& pattern, const std::byte* begin, Index bytes) {
  const Index part = bytes / pattern.streams / step * step;
  Word a{}, b{}, c{}, d{};
  for (Index at = 0; at < part; at += pattern.burst) {
    const Index burst = std::min(pattern.burst, part - at);
    for (Index stream = 0; stream < pattern.streams; ++stream) {
      const std::byte* p = begin + stream * part + at;
      const std::byte* const end = p + burst;
      for (; p != end; p += step) {
        GQA_UNROLL
        for (Index i = 0; i < step; i += line) prefetch<H>(p + pattern.ahead + i);
        GQA_UNROLL
        for (Index i = 0; i < step; i += 4 * word_bytes) {
          const auto* words = reinterpret_cast<const Word*>(p + i);
          if constexpr (Paced) {  // one waits for the other
            GQA_UNROLL
            for (Index word = 0; word < 4; ++word) {
              a ^= words[word];
              if (word * word_bytes % line == 0) a += words[word];
            }
            continue;
          }
          a ^= words[0];
          b ^= words[1];
          c ^= words[2];
          d ^= words[3];
        }
      }
    }
  }
  Word result = a ^ b ^ c ^ d;
  asm volatile("" : : "m"(result));  // is read, so all of it was
  return part * pattern.streams;
}

constexpr Index kib = 1024;
constexpr std::array patterns{
    ReadPattern{.streams = 1},
    ReadPattern{.streams = 2},
    ReadPattern{.streams = 4},
    ReadPattern{.streams = 8, .burst = 512},
    ReadPattern{.streams = 8, .burst = 32 * kib},
    ReadPattern{.hint = Hint::l1, .ahead = 512},
    ReadPattern{.hint = Hint::l1, .ahead = 1 * kib},
    ReadPattern{.hint = Hint::l1, .ahead = 2 * kib},
    ReadPattern{.hint = Hint::l1, .ahead = 4 * kib},
    ReadPattern{.hint = Hint::l1, .ahead = 8 * kib},
    ReadPattern{.streams = 2, .hint = Hint::l1, .ahead = 2 * kib},
    ReadPattern{.hint = Hint::l2, .ahead = 2 * kib},
    ReadPattern{.hint = Hint::l2, .ahead = 4 * kib},
    ReadPattern{.hint = Hint::l2, .ahead = 8 * kib},
    ReadPattern{.hint = Hint::l2, .ahead = 16 * kib},
    ReadPattern{.hint = Hint::l2, .ahead = 32 * kib},
    ReadPattern{.hint = Hint::l2, .ahead = 64 * kib},
    ReadPattern{.hint = Hint::l2, .ahead = 128 * kib},
    ReadPattern{.streams = 2, .burst = 32 * kib, .hint = Hint::l2, .ahead = 32 * kib},
    ReadPattern{.streams = 4, .burst = 4 * kib, .hint = Hint::l2, .ahead = 16 * kib},
    ReadPattern{.paced = true},
    ReadPattern{.hint = Hint::l2, .ahead = 4 * kib, .paced = true},
    ReadPattern{.hint = Hint::once, .ahead = 1 * kib},
    ReadPattern{.hint = Hint::once, .ahead = 4 * kib},
};

}  // namespace

std::string ReadPattern::describe() const {
  std::string result = streams == 1 ? "one stream" : text("%d streams, ", streams);
  if (streams > 1) result += "bursts of " + bytes_text(static_cast<double>(burst));
  const char* const where = hint == Hint::l1 ? "to L1" : hint == Hint::l2 ? "to L2" : "for one use";
  if (paced) result += ", 2 cycles a line";
  if (hint == Hint::none) return result + ", no prefetch";
  return result + ", prefetch " + where + " " + bytes_text(static_cast<double>(ahead)) + " ahead";
}

std::span<const ReadPattern> read_patterns() { return patterns; }

Index read(const ReadPattern& pattern, const std::byte* begin, Index bytes) {
  const auto with = [&]<Hint H>() {
    return pattern.paced ? read_streams<H, true>(pattern, begin, bytes)
                         : read_streams<H, false>(pattern, begin, bytes);
  };
  switch (pattern.hint) {
    case Hint::none:
      return with.operator()<Hint::none>();
    case Hint::l1:
      return with.operator()<Hint::l1>();
    case Hint::l2:
      return with.operator()<Hint::l2>();
    case Hint::once:
      return with.operator()<Hint::once>();
  }
  return 0;
}

}  // namespace gqa::bench
