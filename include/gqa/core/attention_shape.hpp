// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// AttentionShape: what rules, kernels and modules agree on before a call.
#pragma once

#include "gqa/core/config.hpp"

namespace gqa {

/// The sizes of one attention call, for rules to check their tables against.
struct AttentionShape {
  Index batch = 0;
  Index q_len = 0;
  Index kv_len = 0;  ///< of the longest sequence
  Index num_heads = 0;
  Index num_kv_heads = 0;
  Index head_dim = 0;
  Index value_dim = 0;

  GQA_TAG Index group() const { return num_heads / num_kv_heads; }
};

}  // namespace gqa
