// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// gqa: grouped-query attention on Eigen tensors for CPUs. This page is the table of contents; begin
// with kernel/reference.hpp, which says what attention is here, and kernel/attend.hpp, the front
// door. gqa/attention.hpp is the part of it that needs no Eigen.
#pragma once

// The vocabulary.
#include "gqa/core/config.hpp"     // GQA_ISA, alignment
#include "gqa/core/dtype.hpp"      // Dtype: a storage type known at run time
#include "gqa/core/eigen.hpp"      // Eigen: matrices and tensors
#include "gqa/core/heads.hpp"      // Heads, Mha, Gqa, Mqa
#include "gqa/core/kv_source.hpp"  // KvSource: bring your own cache
#include "gqa/core/scalar.hpp"     // float, double, bfloat16, half
#include "gqa/core/view.hpp"       // TensorView, heads_first
#include "gqa/core/workspace.hpp"  // Workspace
#include "gqa/version.hpp"

// What a score means: Causal{} & SlidingWindow::from_hf(1024) & SoftCap{50.0f}.
#include "gqa/score/mask.hpp"
#include "gqa/score/rule.hpp"
#include "gqa/score/rule_set.hpp"  // RuleSet: rules chosen at run time
#include "gqa/score/rules.hpp"

// Who runs the tasks. (parallel/openmp.hpp is for programs that use OpenMP.)
#include "gqa/parallel/eigen_pool.hpp"
#include "gqa/parallel/executor.hpp"

// Row maths around attention.
#include "gqa/ops/hadamard.hpp"  // apply_hadamard, KeyMean: for few bits
#include "gqa/ops/rms_norm.hpp"
#include "gqa/ops/rope.hpp"
#include "gqa/ops/softmax_state.hpp"

// Attention.
#include "gqa/kernel/attend.hpp"
#include "gqa/kernel/backward.hpp"            // attend_backward: the gradients
#include "gqa/kernel/backward_reference.hpp"  // and what they are
#include "gqa/kernel/explain.hpp"
#include "gqa/kernel/reference.hpp"
#include "gqa/kernel/rows_kv.hpp"
#include "gqa/kernel/shared_prefix.hpp"  // attend_shared_prefix: a prompt that many sequences share

// Keys and values that stay.
#include "gqa/cache/contiguous.hpp"      // KvCache
#include "gqa/cache/kv_cache_stack.hpp"  // KvCacheStack: the layers of a model
#include "gqa/cache/kv_memory.hpp"       // plan_kv_memory: bytes for MHA, GQA and MQA
#include "gqa/cache/paged.hpp"           // PagedKvCache: forks, prefixes, many sequences
#include "gqa/cache/ring.hpp"            // RingKvCache: sliding windows
#include "gqa/cache/selection.hpp"       // select: some sequences of a cache as a batch
#include "gqa/cache/serialize.hpp"       // save, load
#include "gqa/cache/storage_error.hpp"   // storage_error: what a storage type costs
#include "gqa/cache/transaction.hpp"     // AppendTransaction: a step of all layers, or none of it

// What a model's author uses.
#include "gqa/module/context_shift.hpp"         // drop_tokens
#include "gqa/module/multi_head_attention.hpp"  // MultiHeadAttention

// From a multi-head checkpoint to fewer KV heads. What else convert/ has is for programs that
// convert, which include it themselves: it would cost every other one compile time.
#include "gqa/convert/head_pooling.hpp"  // mean_pool_heads
