// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Every mask and every score rule of the library, chosen at run time and made for a given shape,
// with the tables that they look into.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "erased_rules.hpp"
#include "random.hpp"

namespace gqa::test {

enum class MaskChoice {
  none,
  causal,
  causal_top_left,
  window_left,
  window_both,
  window_ahead,
  causal_window_keep_first,
  prefix_lm,
  prefix_lm_per_sequence,
  documents,
  causal_documents,
  dense,
  dense_per_head,
  dense_short,
  function,
  everything_hidden,
};
inline constexpr std::array mask_names{"NoMask",
                                       "Causal",
                                       "Causal::top_left",
                                       "SlidingWindow{left}",
                                       "SlidingWindow{left, right}",
                                       "SlidingWindow{.right}",
                                       "Causal & SlidingWindow & KeepFirst",
                                       "PrefixLm",
                                       "PrefixLm{.lengths}",
                                       "Documents",
                                       "Causal & Documents",
                                       "DenseMask [1, 1, q, k]",
                                       "DenseMask [b, h, q, k]",
                                       "DenseMask shorter than the keys",
                                       "mask_function",
                                       "everything hidden"};

enum class ScoreChoice {
  none,
  soft_cap,
  alibi,
  relative_bias,
  relative_bias_causal,
  additive_bias,
  additive_bias_hiding,
  sinks,
  all_together,
  function,
};
inline constexpr std::array score_names{"no score rule",
                                        "SoftCap",
                                        "Alibi",
                                        "RelativeBias",
                                        "RelativeBias{.bidirectional = false}",
                                        "AdditiveBias",
                                        "AdditiveBias with -inf",
                                        "SinkLogits",
                                        "SoftCap & Alibi & AdditiveBias & SinkLogits",
                                        "score_function"};

using ErasedMasks = Rules<Scale, ErasedMask>;
using ErasedMasksAndScores = Rules<Scale, ErasedMask, ErasedMask, ErasedScores<ScoreStage::capped>,
                                   ErasedScores<ScoreStage::biased>, ErasedSinks>;

/// Any rules behind the one part type AnyRules.
template <RulesOrPart RulesT>
std::shared_ptr<const AnyRules> erase(const RulesT& rules) {
  using All = std::remove_cvref_t<decltype(as_rules(rules))>;
  return std::make_shared<const TheseRules<All>>(as_rules(rules));
}
/// Masks alone, as attend() takes them.
template <RulesOrPart RulesT>
ErasedMasks erase_masks(const RulesT& masks, double scale = 0.25) {
  return Scale{scale} & ErasedMask{erase(masks)};
}

/// Makes rules for one shape and owns their tables.
class RuleFactory {
 public:
  RuleFactory(const AttentionShape& shape, Random& random) : shape_(shape), random_(random) {}

  std::shared_ptr<const AnyRules> mask(MaskChoice choice) {
    const Index k = shape_.kv_len, reach = random_.integer(0, std::max<Index>(k / 2, 1));
    switch (choice) {
      case MaskChoice::none:
        return erase(NoMask{});
      case MaskChoice::causal:
        return erase(Causal{});
      case MaskChoice::causal_top_left:
        return erase(Causal::top_left());
      case MaskChoice::window_left:
        return erase(SlidingWindow::from_hf(reach + 1));
      case MaskChoice::window_both:
        return erase(SlidingWindow{.left = reach, .right = random_.integer(0, 40)});
      case MaskChoice::window_ahead:
        return erase(SlidingWindow{.right = reach});
      case MaskChoice::causal_window_keep_first:
        return erase(Causal{} & SlidingWindow::from_hf(reach + 1) &
                     KeepFirst{random_.integer(0, 70)});
      case MaskChoice::prefix_lm:
        return erase(PrefixLm{.length = random_.integer(0, k)});
      case MaskChoice::prefix_lm_per_sequence:
        return erase(PrefixLm{.lengths = indices(shape_.batch, k)});
      case MaskChoice::documents:
        return erase(documents());
      case MaskChoice::causal_documents:
        return erase(Causal{} & documents());
      case MaskChoice::dense:
        return erase(DenseMask{bools({1, 1, shape_.q_len, k})});
      case MaskChoice::dense_per_head:
        return erase(DenseMask{bools({shape_.batch, shape_.num_heads, shape_.q_len, k})});
      case MaskChoice::dense_short:
        return erase(DenseMask{bools({shape_.batch, 1, 1, k - k / 3})});
      case MaskChoice::function:
        return erase(mask_function([](const Where& w) {
          return (w.k_pos * 7 + w.q_pos * 3 + w.head + w.batch) % 4 != 0;
        }));
      case MaskChoice::everything_hidden:
        return erase(mask_function([](const Where&) { return false; }));
    }
    return nullptr;
  }

  std::shared_ptr<const AnyRules> score(ScoreChoice choice) {
    switch (choice) {
      case ScoreChoice::none:
        return erase(NoMask{});
      case ScoreChoice::soft_cap:
        return erase(SoftCap{3.0f});
      case ScoreChoice::alibi:
        return erase(Alibi::standard(shape_.num_heads));
      case ScoreChoice::relative_bias:
        return erase(
            RelativeBias{.table = floats(32 * shape_.num_heads), .num_heads = shape_.num_heads});
      case ScoreChoice::relative_bias_causal:
        return erase(RelativeBias{.table = floats(12 * shape_.num_heads),
                                  .num_buckets = 12,
                                  .num_heads = shape_.num_heads,
                                  .bidirectional = false,
                                  .max_distance = 50});
      case ScoreChoice::additive_bias:
        return erase(AdditiveBias<float>{bias(1, shape_.num_heads, 0.0)});
      case ScoreChoice::additive_bias_hiding:
        return erase(AdditiveBias<float>{bias(shape_.batch, 1, 0.3)});
      case ScoreChoice::sinks:
        return erase(SinkLogits{floats(shape_.num_heads)});
      case ScoreChoice::all_together:
        return erase(SinkLogits{floats(shape_.num_heads)} & Alibi::standard(shape_.num_heads) &
                     AdditiveBias<float>{bias(1, 1, 0.1)} & SoftCap{5.0f});
      case ScoreChoice::function:
        return erase(score_function(
            [](auto x, const Where& w) {
              return x + static_cast<decltype(x)>((w.k_pos - w.q_pos + w.head) % 5) / 4;
            },
            [](auto x, const Where&) { return decltype(x)(1); }));
    }
    return nullptr;
  }

  double default_scale() const { return 1 / std::sqrt(static_cast<double>(shape_.head_dim)); }
  ErasedMasks masks(double scale, MaskChoice choice) {
    return Scale{scale} & ErasedMask{mask(choice)};
  }
  ErasedMasksAndScores masks_and_scores(double scale, MaskChoice mask_choice,
                                        ScoreChoice score_choice) {
    const auto scores = score(score_choice);
    return Scale{scale} & ErasedMask{mask(mask_choice)} & ErasedMask{scores} &
           ErasedScores<ScoreStage::capped>{scores} & ErasedScores<ScoreStage::biased>{scores} &
           ErasedSinks{scores};
  }

 private:
  std::span<const Index> indices(Index n, Index highest) {
    auto& table = indices_.emplace_back(static_cast<std::size_t>(n));
    for (Index& x : table) x = random_.integer(0, highest);
    return table;
  }
  std::span<const float> floats(Index n) {
    auto& table = floats_.emplace_back(static_cast<std::size_t>(n));
    for (float& x : table) x = static_cast<float>(random_.normal());
    return table;
  }
  /// Ids in runs, as packed documents have them, with an odd one here and there.
  std::span<const int> ids(Index rows, Index n) {
    auto& table = ints_.emplace_back(static_cast<std::size_t>(rows * n));
    int id = 0;
    for (int& x : table) {
      if (random_.chance(0.03)) id = static_cast<int>(random_.integer(0, 3));
      x = random_.chance(0.02) ? 7 : id;
    }
    return table;
  }
  Documents documents() {
    const Index q_row = shape_.q_len + 2, k_row = shape_.kv_len + 5;  // tables may be wider
    const auto q_ids = ids(shape_.batch, q_row), k_ids = ids(shape_.batch, k_row);
    return {.q_ids = q_ids, .k_ids = k_ids, .q_len = q_row, .kv_len = k_row};
  }
  /// Runs of true and false, so that whole strips come out visible, hidden and mixed.
  DenseView<bool> bools(const DenseView<bool>::Shape& shape) {
    const Index n = shape.batch * shape.num_heads * shape.q_len * shape.kv_len;
    auto& table = bools_.emplace_back(new bool[static_cast<std::size_t>(n)]);
    bool value = true;
    for (Index i = 0; i < n; ++i) {
      if (random_.chance(0.02)) value = !value;
      table[static_cast<std::size_t>(i)] = value;
    }
    return {table.get(), shape};
  }
  DenseView<float> bias(Index batch, Index num_heads, double hidden) {
    const Index n = batch * num_heads * shape_.q_len * shape_.kv_len;
    auto& table = floats_.emplace_back(static_cast<std::size_t>(n));
    for (float& x : table) {
      x = random_.chance(hidden) ? -std::numeric_limits<float>::infinity()
                                 : static_cast<float>(random_.normal());
    }
    return {table.data(), {batch, num_heads, shape_.q_len, shape_.kv_len}};
  }

  AttentionShape shape_;
  Random& random_;
  std::deque<std::vector<Index>> indices_;
  std::deque<std::vector<float>> floats_;
  std::deque<std::vector<int>> ints_;
  std::deque<std::unique_ptr<bool[]>> bools_;
};

}  // namespace gqa::test
