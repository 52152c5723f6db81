// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What the keys and values of a model take, before anything is allocated: the number that decides
// how long contexts and how large batches may be, and the one that grouped-query attention is
// about.
#pragma once

#include "gqa/core/aligned_buffer.hpp"
#include "gqa/core/dtype.hpp"
#include "gqa/core/heads.hpp"
#include "gqa/layout/strips.hpp"

namespace gqa {

/// What is to be planned for.
struct KvMemoryOptions {
  Index num_layers = 1;
  Heads<> heads = {};
  Dtype dtype = Dtype::bf16;
  Index context = 0;  ///< tokens of a sequence
  Index batch = 1;    ///< sequences
};

/// Bytes for one number of KV heads.
struct KvMemory {
  Index num_kv_heads = 0;
  Index bytes_per_token = 0;  ///< of one sequence, in all layers, padding excluded
  Index bytes = 0;            ///< of whole blocks of 64 tokens, as caches take them
};

/// The same model with a KV head per query head, with its own, and with a single one.
struct KvMemoryPlan {
  KvMemory mha;
  KvMemory gqa;
  KvMemory mqa;
};

/// plan_kv_memory({.num_layers = 80, .heads = {64, 8, 128}, .dtype = Dtype::bf16, .context = 8192,
///                 .batch = 4}).gqa.bytes is what a KvCacheStack of KvCache<bfloat16> takes.
/// Throws std::invalid_argument for negative numbers and for heads that are not set, and
/// std::length_error for bytes that 63 bits don't count.
GQA_TAG inline KvMemoryPlan plan_kv_memory(const KvMemoryOptions& options) {
  const Heads<>& heads = options.heads;
  require(heads.num_heads() > 0, "plan_kv_memory: heads are not set");
  require(options.num_layers >= 0 && options.context >= 0 && options.batch >= 0,
          "plan_kv_memory: num_layers ", options.num_layers, ", context ", options.context,
          " and batch ", options.batch, " must not be negative");
  return with_storage(options.dtype, [&]<typename Storage>() {
    const StripLayout<Storage> layout(heads.head_dim(), heads.value_dim());
    const auto memory = [&](Index num_kv_heads) {
      const char* who = "plan_kv_memory";
      return KvMemory{.num_kv_heads = num_kv_heads,
                      .bytes_per_token = memory_bytes(
                          who, {options.num_layers, num_kv_heads, layout.token_bytes()}),
                      .bytes = memory_bytes(
                          who, {options.num_layers, num_kv_heads, options.batch,
                                ceil_div(options.context, block_keys), layout.block_bytes()})};
    };
    return KvMemoryPlan{
        .mha = memory(heads.num_heads()), .gqa = memory(heads.num_kv_heads()), .mqa = memory(1)};
  });
}

}  // namespace gqa
