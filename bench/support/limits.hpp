// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What a step of attention can't beat: reading `bytes` and computing `flops` takes at least
// max(bytes / bandwidth, flops / peak), both measured beside the step, since the machines that one
// measures on are shared and change within minutes.
#pragma once

#include <algorithm>
#include <fstream>
#include <gqa/core/aligned_buffer.hpp>
#include <gqa/core/heads.hpp>
#include <gqa/core/scalar.hpp>
#include <optional>
#include <string>

#include "support/speeds.hpp"

namespace gqa::bench {

/// The instructions that S = Q Kᵀ and O += P V are made of at best, for keys and values kept as
/// some type.
struct Products {
  Arithmetic keys = Arithmetic::f32_fma;
  Arithmetic values = Arithmetic::f32_fma;
};
template <typename Storage>
Products best_products() {
  const auto if_there = [](Arithmetic wanted) {
    return compute_probes(wanted).empty() ? Arithmetic::f32_fma : wanted;
  };
  if constexpr (std::same_as<Storage, bfloat16>) {
    return {if_there(Arithmetic::bf16_dot), if_there(Arithmetic::bf16_dot)};
  } else if constexpr (is_quantized<Storage>) {
    return {if_there(Arithmetic::u8_dot), if_there(Arithmetic::u8_dot)};
  } else {
    return {};
  }
}

/// Bytes of the level of cache that the first core has (2) or shares (3), as Linux tells it
/// (sysconf counts caches that a virtual machine doesn't get); else 1 MiB and 32 MiB.
inline Index cache_bytes(int level) {
  for (int i = 0; i < 8; ++i) {
    const std::string folder = message("/sys/devices/system/cpu/cpu0/cache/index", i, "/");
    std::ifstream level_file(folder + "level"), size_file(folder + "size");
    int found = 0;
    Index size = 0;
    char unit = 'K';
    if (!(level_file >> found) || !(size_file >> size)) break;
    size_file >> unit;
    if (found == level) return unit == 'M' ? size << 20 : size << 10;
  }
  return Index{1} << (level == 2 ? 20 : 25);
}

/// 128 MiB of huge pages, more where the caches are large.
class LargeMemory {
 public:
  LargeMemory() { std::fill_n(buffer_.data(), buffer_.bytes(), std::byte{1}); }
  std::span<const std::byte> bytes() const { return {buffer_.data(), buffer_.bytes()}; }

 private:
  AlignedBuffer buffer_{static_cast<std::size_t>(std::max(Index{128} << 20, 4 * cache_bytes(3)))};
};

/// The machine's speeds at one moment.
struct Limit {
  double bandwidth = 0;  ///< bytes per second
  double flops = 0;      ///< per second, over both products

  double seconds(double bytes, double operations) const {
    return std::max(bytes / bandwidth, operations / flops);
  }
};

/// The limit of what reads `memory`, on the threads of one executor.
class Limits {
 public:
  /// Memory larger than the caches is also judged by `large`, a LargeMemory's speed, so that a
  /// cache that is badly laid out (in small pages, say) doesn't set its own standard.
  Limits(Clock clock, Products products, std::span<const std::byte> memory,
         ReadSpeed* large = nullptr)
      : clock_(clock),
        keys_(products.keys),
        read_(memory),
        large_(std::ssize(memory) > 2 * cache_bytes(3) ? large : nullptr) {
    if (products.values != products.keys) values_.emplace(products.values);
  }

  /// The speeds now. The first call finds the best probes.
  template <typename ExecutorT>
  Limit measure(ExecutorT& executor) {
    Limit limit;
    limit.bandwidth = read_.measure(executor, clock_);
    if (large_) limit.bandwidth = std::max(limit.bandwidth, large_->measure(executor, clock_));
    const double keys = keys_.measure(executor, clock_);
    const double values = values_ ? values_->measure(executor, clock_) : keys;
    limit.flops = 2 / (1 / keys + 1 / values);  // half of the operations are each product's
    bandwidths_.push_back(limit.bandwidth);
    flops_.push_back(limit.flops);
    return limit;
  }
  /// The median of all measurements.
  Limit median() const { return {bench::median(bandwidths_), bench::median(flops_)}; }

 private:
  Clock clock_;
  ComputeSpeed keys_;
  std::optional<ComputeSpeed> values_;
  ReadSpeed read_;
  ReadSpeed* large_;
  std::vector<double> bandwidths_;
  std::vector<double> flops_;
};

}  // namespace gqa::bench
