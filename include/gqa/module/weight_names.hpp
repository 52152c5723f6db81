// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What checkpoints call the weights of an attention layer, and in which order they keep the rows
// that rotary embedding pairs. Hugging Face's code rotates halves, (0, d/2), (1, d/2 + 1), …, so
// its checkpoints have the rows of q_proj and k_proj in that order; llama2.c and Meta's code rotate
// neighbours, (0, 1), (2, 3), …, and keep wq and wk so. The rotation is the same, the rows are
// permuted: Hugging Face's conversion scripts call it `permute`.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "gqa/core/view.hpp"
#include "gqa/ops/rope_scaling.hpp"

namespace gqa {

/// The tensors of a layer. `qkv` is wq, wk and wv on top of one another.
enum class AttentionWeight { wq, wk, wv, wqkv, wo, bq, bk, bv, bqkv, bo, q_norm, k_norm };

struct AttentionWeightName {
  std::string_view name;
  AttentionWeight weight;
  RopeStyle style;  ///< order of the rows in checkpoints that use this name
};

/// Every name that is understood; the first for each weight is its Hugging Face name.
inline constexpr std::array attention_weight_names = [] {
  using enum AttentionWeight;
  using enum RopeStyle;
  return std::to_array<AttentionWeightName>({
      {"q_proj.weight", wq, rotate_half},  // Hugging Face: Llama, Mistral, Qwen, Gemma, …
      {"k_proj.weight", wk, rotate_half},
      {"v_proj.weight", wv, rotate_half},
      {"o_proj.weight", wo, rotate_half},
      {"q_proj.bias", bq, rotate_half},
      {"k_proj.bias", bk, rotate_half},
      {"v_proj.bias", bv, rotate_half},
      {"o_proj.bias", bo, rotate_half},
      {"q_norm.weight", q_norm, rotate_half},
      {"k_norm.weight", k_norm, rotate_half},
      {"qkv_proj.weight", wqkv, rotate_half},  // Phi-3
      {"qkv_proj.bias", bqkv, rotate_half},
      {"out_proj.weight", wo, rotate_half},  // BART, OPT
      {"out_proj.bias", bo, rotate_half},
      {"c_attn.weight", wqkv, rotate_half},  // GPT-2 (transposed) and minGPT (as it is)
      {"c_attn.bias", bqkv, rotate_half},
      {"c_proj.weight", wo, rotate_half},
      {"c_proj.bias", bo, rotate_half},
      {"wq", wq, interleaved},  // llama2.c
      {"wk", wk, interleaved},
      {"wv", wv, interleaved},
      {"wo", wo, interleaved},
      {"wq.weight", wq, interleaved},  // Meta
      {"wk.weight", wk, interleaved},
      {"wv.weight", wv, interleaved},
      {"wo.weight", wo, interleaved},
  });
}();

/// Finds "q_proj.weight", also at the end of "model.layers.0.self_attn.q_proj.weight".
GQA_TAG inline std::optional<AttentionWeightName> find_attention_weight(std::string_view name) {
  for (const AttentionWeightName& known : attention_weight_names) {
    if (!name.ends_with(known.name)) continue;
    const std::size_t rest = name.size() - known.name.size();
    if (rest == 0 || name[rest - 1] == '.') return known;
  }
  return std::nullopt;
}

/// The Hugging Face name of a weight; "wqkv" and "bqkv", which have several, are Phi-3's.
GQA_TAG inline std::string_view attention_weight_name(AttentionWeight weight) {
  return std::ranges::find(attention_weight_names, weight, &AttentionWeightName::weight)->name;
}

/// Where row `row` of a q or k projection (or bias, or norm) kept in the order `from` stands in the
/// order `to`. Rows come in heads of head_dim, of which the first rotary_dim are rotated.
GQA_TAG constexpr Index rope_row(Index row, Index head_dim, Index rotary_dim, RopeStyle from,
                                 RopeStyle to) {
  const Index channel = row % head_dim;
  if (from == to || channel >= rotary_dim) return row;
  const Index pairs = rotary_dim / 2;
  const Index moved = to == RopeStyle::interleaved ? channel % pairs * 2 + channel / pairs
                                                   : channel % 2 * pairs + channel / 2;
  return row - channel + moved;
}

/// Copies `weight`, the rows of a q or k projection [heads * head_dim, in], to `out` with the rows
/// in another order: rotate_half to interleaved turns a Hugging Face checkpoint into one for
/// llama2.c, the other way round is the `permute` of Hugging Face's conversion scripts. Row-major,
/// dense.
template <typename T>
GQA_TAG void reorder_rope_rows(const T* weight, T* out, Index rows, Index in, Index head_dim,
                               Index rotary_dim, RopeStyle from, RopeStyle to) {
  require(head_dim > 0 && rows % head_dim == 0, "head_dim ", head_dim, " does not divide the ",
          rows, " rows");
  require(rotary_dim >= 0 && rotary_dim % 2 == 0 && rotary_dim <= head_dim,
          "rotary_dim must be even and at most head_dim ", head_dim, ", is ", rotary_dim);
  require(weight != out, "reorder_rope_rows does not work in place");
  for (Index row = 0; row < rows; ++row) {
    std::copy_n(weight + row * in, in, out + rope_row(row, head_dim, rotary_dim, from, to) * in);
  }
}

}  // namespace gqa
