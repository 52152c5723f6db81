// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What attention_bench times: a call of attend() over a filled cache, or over a user's own tensors,
// or of attend_backward().
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>

#include "support/check.hpp"
#include "support/data.hpp"
#include "support/limits.hpp"

namespace gqa::bench {

struct Case {
  std::string dtype = "f32";  ///< of keys and values: f32, bf16, f16, int8, int4
  ModelShape model;
  Index kv_len = 0;
  Index q_len = 0;  ///< 1: decode; kv_len: prefill
  Index batch = 1;
  Index threads = 1;
  bool rows = false;      ///< keys and values are a user's row-major tensors, not a cache
  bool backward = false;  ///< the gradient; of a user's tensors, kv_len == q_len
  /// Which cache: "" KvCache; "paged" and "paged_512", pages of 64 and 512 tokens in random order;
  /// "ring", one that has wrapped. "forks": sequences of a paged cache that share all but their
  /// last 64 tokens; "shared_prefix": the same by attend_shared_prefix(). "append": not attention,
  /// but appending a token to one of 32 layers in turn.
  std::string cache = {};

  bool decodes() const { return q_len == 1 && !backward; }
};

/// decode/f32/heads:32/kv_heads:8/head_dim:128/kv_len:4096/batch:1/threads:1; of rows,
/// decode_rows/…; of gradients, backward/…
std::string name_of(const Case& c);
/// The case of a name; nothing for other text.
std::optional<Case> case_of(const std::string& name);

/// Queries, keys and values in memory, and a call over them.
class Work {
 public:
  virtual ~Work() = default;
  /// attend(), or attend_backward().
  virtual void attend(const EigenPool& executor) = 0;
  /// How far what it wrote is from the reference.
  virtual Agreement agreement() const = 0;
  /// The keys and values, or a good part of them.
  virtual std::span<const std::byte> memory() const = 0;

  Products products;    ///< what the case's dtype can be multiplied with on this machine
  double kv_bytes = 0;  ///< that a call reads
  double flops = 0;     ///< that a call computes: of the pairs that Causal shows
};

/// What the works of any keys and values have in common.
class WorkOverQueries : public Work {
 public:
  explicit WorkOverQueries(const Case& c)
      : q_(c.batch, c.q_len, c.model.num_heads, c.model.head_dim), out_(q_.dimensions()) {
    flops = static_cast<double>(c.batch) *
            causal_flops(c.model.num_heads, c.model.head_dim, c.q_len, c.kv_len);
    Random(2).fill(q_);
  }
  Agreement agreement() const override { return expected_->agreement(out_); }

 protected:
  template <typename Source, typename RulesT = Causal>
  void attend_over(const Source& source, const EigenPool& executor, const RulesT& rules = {}) {
    gqa::attend(q_, source, out_, rules, {.workspace = &workspace_}, executor);
  }
  template <typename Source, typename RulesT = Causal>
  void find_reference(const Source& source, const RulesT& rules = {}) {
    expected_.emplace(q_, source, rules);
  }

  Tensor q_;  // [batch, q_len, num_heads, head_dim]
  Tensor out_;
  Workspace workspace_;

 private:
  std::optional<SampledReference> expected_;
};

/// The works of the last cases, made when they are first asked for: cases with the same tensors
/// share them. What was used longest ago goes when they exceed 3 GiB; the last two stay.
class Works {
 public:
  Work& operator()(const Case& c);

 private:
  struct Entry {
    std::string name;
    std::unique_ptr<Work> work;
  };
  std::list<Entry> entries_;  // the last used first
};

}  // namespace gqa::bench
