// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// explain(): what attend() will do with the same arguments, as numbers and as text: path,
// instructions, tile, split, scratch, the bytes and operations of the call, and which of memory and
// arithmetic bounds it. Nothing is computed of the attention itself.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>
#include <tuple>

#include "gqa/kernel/attend.hpp"

namespace gqa {

/// One core, or all that an executor uses. The defaults are one core of AMD Zen 4; bench/roofline
/// measures yours.
struct MachineLimits {
  double flops_per_second = 114e9;       ///< float FMA, a multiplication and an addition being two
  double bytes_per_second = 28e9;        ///< read from memory
  double bf16_flops_per_second = 228e9;  ///< of pair dot products, where the build has them
  double int8_ops_per_second = 440e9;    ///< of quad dot products, where the build has them
};

struct Explanation {
  bool split_kv = false;  ///< splits of the keys are tasks (decode), or row blocks are (prefill)
  bool packs_kv = false;  ///< rows of keys and values are packed into strips, once per KV head
  bool packs_blocks = false;     ///< they are packed block by block on the way
  bool multiplies_rows = false;  ///< they are multiplied where they lie, but for partly seen blocks
  bool streams_kv = false;       ///< some row blocks read them in the way that suits memory, not L3
  const char* isa = "";          ///< the registers: "avx512", "avx2", …
  const char* storage = "";      ///< of keys and values: "f32", "bf16", "int8", …
  const char* product = "";      ///< how they are multiplied
  Index tile_rows = 0;           ///< query rows of a register tile
  Index tile_registers = 0;      ///< registers of keys or channels beside each
  Index block_rows = 0;          ///< query rows of the largest row block, group · tokens
  Index block_keys = 0;          ///< keys multiplied at a time
  Index split_keys = 0;          ///< keys per softmax state, counted from key 0
  Index tasks = 0;
  Index workers = 0;
  std::size_t scratch_bytes = 0;  ///< what the workspace will hold
  double kv_bytes = 0;            ///< of blocks that some row sees, each counted once
  double flops = 0;               ///< of the two products over those blocks
  double peak = 0;                ///< FLOP/s or op/s that bound it, of the limits given
  double memory_seconds = 0;      ///< kv_bytes / bytes_per_second
  double compute_seconds = 0;     ///< flops / peak

  GQA_TAG bool memory_bound() const { return memory_seconds > compute_seconds; }

  /// Some lines for people.
  GQA_TAG std::string text() const {
    const auto number = [](double x, const char* unit) {
      const char* prefix = "";
      for (const char* next : {"k", "M", "G", "T"}) {
        if (x < 1000) break;
        x /= 1000;
        prefix = next;
      }
      char digits[16];
      std::snprintf(digits, sizeof(digits), "%.3g", x);
      return message(std::string_view(digits), " ", prefix, unit);
    };
    return message(split_kv ? "decode: each split of the keys is a task"
                            : "row blocks: each block of query rows is a task",
                   packs_kv          ? ", keys and values packed beforehand"
                   : packs_blocks    ? ", packed on the way"
                   : multiplies_rows ? ", keys and values multiplied as rows"
                   : streams_kv      ? ", keys and values read as a stream"
                                     : "",
                   "\n  ", isa, ", ", storage, " keys and values, ", product, "\n  tile of ",
                   tile_rows, " rows x ", tile_registers, " registers; blocks of ", block_rows,
                   " rows x ", block_keys, " keys; splits of ", split_keys, " keys\n  ", tasks,
                   " tasks for ", workers, " workers, ",
                   number(static_cast<double>(scratch_bytes), "B"), " of scratch\n  reads ",
                   number(kv_bytes, "B"), " of keys and values, computes ", number(flops, "FLOP"),
                   ": bound by ", memory_bound() ? "memory" : "arithmetic", "\n");
  }
};

namespace detail {

inline namespace GQA_ISA {

/// What is visible of a call, by blocks: adds to kv_bytes and flops.
inline void count_work(const AttentionCall& call, const RulesView& rules, Index block_bytes,
                       Explanation& e) {
  const AttentionShape& shape = call.shape;
  const double row_flops = 2.0 * static_cast<double>(shape.head_dim + shape.value_dim);
  for (Index b = 0; b < shape.batch; ++b) {
    const Sequence s = call.sequence(b);
    const Index rows = call.rows(b), group = shape.group();
    for (Index kv_head = 0; kv_head < shape.num_kv_heads; ++kv_head) {
      for (Index first = 0; first < s.length; first += block_keys) {
        first = (std::max)(first, call.source.next_held(b, first) / block_keys * block_keys);
        if (first >= s.length) break;
        const Index keys = (std::min)(block_keys, s.length - first);
        bool read = false;
        for (Index row = 0; row < rows; row += max_block_rows) {
          const Index end = (std::min)(rows, row + max_block_rows);
          const Tile tile =
              tile_of(call, s, row / group, (end - 1) / group + 1, first, first + keys);
          if (rules.tile(tile, kv_head * group, group) == Coverage::skip) continue;
          read = true;
          e.flops += row_flops * static_cast<double>((end - row) * keys);
        }
        if (read) e.kv_bytes += static_cast<double>(block_bytes);
      }
    }
  }
}

template <typename Storage>
Explanation explain_call(const AttentionCall& call, const MachineLimits& limits) {
  using Dot = simd::Dot<Storage, Product::outputs>;
  using T = AccumulatorOf<Storage>;
  const RulesView rules = call.rules_view();
  const AttendPlan plan = make_plan<Storage>(call, rules);
  if (plan.packs_kv) {
    const PackedKv<Storage> packed(call.source);
    AttentionCall packed_call = call;
    packed_call.source = packed;
    Explanation e = explain_call<Storage>(packed_call, limits);
    e.packs_kv = true;
    e.scratch_bytes += packed.bytes();
    return e;
  }
  constexpr bool dots = !std::same_as<typename Dot::Factor, T>;
  const bool is_rows = call.source.layout() == KvLayout::rows;
  const StripLayout<Storage> strips(call.shape.head_dim, call.shape.value_dim);
  const bool as_rows = is_rows && multiplies_rows(strips) && plan.block_rows <= max_row_tile_rows;
  Explanation e{.split_kv = plan.split_kv,
                .packs_blocks = is_rows && !as_rows,
                .multiplies_rows = as_rows,
                .isa = simd::isa_name,
                .storage = scalar_name<Storage>(),
                .block_rows = plan.block_rows,
                .block_keys = block_keys,
                .split_keys = split_keys,
                .tasks = plan.tasks / plan.heads_together,
                .workers = plan.scratch_slots.count,
                .scratch_bytes = plan.scratch_bytes};
  if constexpr (!dots) {
    e.product = std::same_as<Storage, T> ? "FMA" : "widened, FMA";
    e.peak = limits.flops_per_second / (sizeof(T) / sizeof(float));
  } else if constexpr (is_quantized<Storage>) {
    e.product = "dot products of four integers";
    e.peak = limits.int8_ops_per_second;
  } else {
    e.product = "dot products of pairs";
    e.peak = limits.bf16_flops_per_second;
  }
  for (Index b = 0; !is_rows && b < call.shape.batch; ++b) {
    const Index count = call.rows(b),
                smallest = (count - 1) % max_block_rows + 1;  // the last block
    e.streams_kv |= count > 0 && reads_stream(call, strips, b, smallest);
  }
  e.tile_rows = RowTiles(plan.block_rows).height(0);
  e.tile_registers = tile_registers(static_cast<int>(e.tile_rows));
  count_work(call, rules, strips.block_bytes(), e);
  e.memory_seconds = e.kv_bytes / limits.bytes_per_second;
  e.compute_seconds = e.flops / e.peak;
  return e;
}

}  // namespace GQA_ISA
}  // namespace detail

inline namespace GQA_ISA {

/// What attend(q, kv, out, rules, options, executor) will do. Checks and throws as attend() does;
/// computes nothing, writes nothing. `limits` are those of all workers together.
template <typename Query, KvSource Source, typename Out, RulesOrPart RulesT,
          typename ExecutorT = const Serial>
Explanation explain(const Query& q, const Source& kv, Out&& out, const RulesT& rules,
                    const AttendOptions<AccumulatorOf<ScalarOf<const Query>>>& options = {},
                    ExecutorT&& executor = Serial{}, const MachineLimits& limits = {}) {
  static_assert(Executor<ExecutorT>, "gqa::explain: this argument must model gqa::Executor");
  const TensorView<const ScalarOf<const Query>> q_view = view(q);
  const auto parts = detail::any_parts(rules);
  auto call = detail::make_call("explain", q_view, kv, view(out), parts, options,
                                detail::AnyExecutor(executor));
  detail::check_call("explain", call);
  return detail::explain_call<detail::Native<typename Source::Storage>>(call, limits);
}

}  // namespace GQA_ISA
}  // namespace gqa
