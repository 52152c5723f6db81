// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What the machine can do at the moment: reading memory and multiplying, measured beside what is
// judged by them. A step that reads `bytes` and computes `flops` cannot take less than
// max(bytes / bandwidth, flops / peak).
#pragma once

#include <algorithm>
#include <gqa/gqa.hpp>
#include <vector>

#include "support/measure.hpp"

namespace gqa::bench {

class Limits {
 public:
  explicit Limits(Clock clock) : reading_(clock), multiplying_(clock) {
    std::fill_n(memory(), chunks * chunk_floats, 1.0f);
  }

  template <typename ExecutorT>
  void measure(ExecutorT& executor) {
    // A volatile result can't be optimised away with the work.
    reading_.measure([&] {
      executor.run(chunks, [&](Index chunk, Index) noexcept {
        [[maybe_unused]] const volatile float result = read(memory() + chunk * chunk_floats);
      });
    });
    multiplying_.measure([&] {
      executor.run(executor.concurrency() * 4, [&](Index task, Index) noexcept {
        [[maybe_unused]] const volatile float result = multiply(static_cast<float>(task));
      });
    });
    threads_ = executor.concurrency();
  }

  /// Bytes per second, from memory.
  double bandwidth() const {
    return static_cast<double>(chunks * chunk_floats) * 4 / reading_.median();
  }
  /// Multiplications and additions per second.
  double flops() const {
    return static_cast<double>(threads_ * 4 * fma_rounds * chains * Pack::size) * 2 /
           multiplying_.median();
  }

 private:
  using Pack = simd::Pack<float>;
  static constexpr int chains = 12;  // enough to hide the latency of FMA
  static constexpr Index fma_rounds = 25000;
  static constexpr Index chunk_floats = Index{1} << 20;
  static constexpr Index chunks = 32;  // 128 MiB in all

  float* memory() const { return reinterpret_cast<float*>(memory_.data()); }

  static float read(const float* p) {
    Pack sum[8];
    for (Pack& s : sum) s = Pack::zero();
    for (Index i = 0; i < chunk_floats; i += 8 * Pack::size) {
      GQA_UNROLL
      for (int j = 0; j < 8; ++j) {
        sum[j] = sum[j] + Pack::load(p + i + j * Pack::size);
      }
    }
    return total(sum);
  }
  static float multiply(float start) {
    Pack sum[chains];
    for (Pack& s : sum) s = Pack::broadcast(start += 1);  // equal chains would be merged
    const Pack a = Pack::broadcast(0.999f), b = Pack::broadcast(1e-3f);
    for (Index i = 0; i < fma_rounds; ++i) {
      GQA_UNROLL
      for (int j = 0; j < chains; ++j) sum[j] = fma(sum[j], a, b);
    }
    return total(sum);
  }
  template <std::size_t N>
  static float total(const Pack (&packs)[N]) {
    float sum = 0;
    for (const Pack& p : packs) sum += reduce_add(p);
    return sum;
  }

  AlignedBuffer memory_{static_cast<std::size_t>(chunks * chunk_floats) * sizeof(float)};
  Timings reading_;
  Timings multiplying_;
  Index threads_ = 1;
};

}  // namespace gqa::bench
