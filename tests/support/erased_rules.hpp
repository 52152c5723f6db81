// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Rules behind virtual functions. attend() is compiled once for each type of rules, a second or two
// a piece; a test that goes through dozens of combinations erases their types and compiles it
// twice, for masks alone and for all that rules can be. What a combination means, and in which
// order its parts act, is still the library's own code.
#pragma once

#include <gqa/score/rules.hpp>
#include <memory>

namespace gqa::test {

class AnyRules {
 public:
  virtual ~AnyRules() = default;
  virtual void check(const AttentionShape& shape) const = 0;
  virtual bool visible(const Where& where) const = 0;
  virtual Coverage tile(const Tile& tile) const = 0;
  virtual float score(ScoreStage stage, float x, const Where& where) const = 0;
  virtual double score(ScoreStage stage, double x, const Where& where) const = 0;
  virtual float derivative(ScoreStage stage, float x, const Where& where) const = 0;
  virtual double derivative(ScoreStage stage, double x, const Where& where) const = 0;
  virtual float sink(Index head) const = 0;
};

template <typename RulesT>
class TheseRules final : public AnyRules {
 public:
  explicit TheseRules(RulesT rules) : rules_(std::move(rules)) {}
  void check(const AttentionShape& shape) const override { rules_.check(shape); }
  bool visible(const Where& where) const override { return rules_.visible(where); }
  Coverage tile(const Tile& tile) const override { return rules_.tile(tile); }
  float score(ScoreStage stage, float x, const Where& where) const override {
    return score_of(stage, x, where);
  }
  double score(ScoreStage stage, double x, const Where& where) const override {
    return score_of(stage, x, where);
  }
  float derivative(ScoreStage stage, float x, const Where& where) const override {
    return derivative_of(stage, x, where);
  }
  double derivative(ScoreStage stage, double x, const Where& where) const override {
    return derivative_of(stage, x, where);
  }
  float sink(Index head) const override { return rules_.sink(head); }

 private:
  /// NaN where there is none.
  template <typename T>
  T derivative_of(ScoreStage stage, T x, const Where& where) const {
    if constexpr (RulesT::is_differentiable) {
      using At = typename RulesT::template Derivative<T>;
      const At at =
          stage == ScoreStage::capped
              ? rules_.template derivative_stage<ScoreStage::capped>(At{.score = x}, where)
              : rules_.template derivative_stage<ScoreStage::biased>(At{.score = x}, where);
      return at.of_score;
    } else {
      return std::numeric_limits<T>::quiet_NaN();
    }
  }
  template <typename T>
  T score_of(ScoreStage stage, T x, const Where& where) const {
    return stage == ScoreStage::capped ? rules_.template score_stage<ScoreStage::capped>(x, where)
                                       : rules_.template score_stage<ScoreStage::biased>(x, where);
  }

  RulesT rules_;
};

/// The masks of erased rules, as one part.
struct ErasedMask {
  static constexpr bool per_head = true;
  std::shared_ptr<const AnyRules> rules;

  void check(const AttentionShape& shape) const { rules->check(shape); }
  bool visible(const Where& where) const { return rules->visible(where); }
  Coverage tile(const Tile& tile) const { return rules->tile(tile); }
};

/// Their score rules of one stage, as one part.
template <ScoreStage Stage>
struct ErasedScores {
  static constexpr ScoreStage stage = Stage;
  std::shared_ptr<const AnyRules> rules;

  float score(float x, const Where& where) const { return rules->score(Stage, x, where); }
  double score(double x, const Where& where) const { return rules->score(Stage, x, where); }
  float derivative(float x, const Where& where) const { return rules->derivative(Stage, x, where); }
  double derivative(double x, const Where& where) const {
    return rules->derivative(Stage, x, where);
  }
};

/// Their sink logits.
struct ErasedSinks {
  std::shared_ptr<const AnyRules> rules;

  float sink(Index head) const { return rules->sink(head); }
};

/// Rules whose type is forgotten. They look into tables that live elsewhere.
class ErasedRules {
 public:
  template <RulesOrPart RulesT>
  ErasedRules(const RulesT& part_or_rules, Index head_dim) {
    const auto& rules = as_rules(part_or_rules);
    using All = std::remove_cvref_t<decltype(as_rules(part_or_rules))>;
    rules_ = std::make_shared<const TheseRules<All>>(rules);
    scale_ = rules.scale(head_dim);
    only_masks_ = !All::has_scores && !All::has_sinks;
  }

  /// Calls fn(rules) with one of two types of library rules: masks alone, or with score rules and
  /// sink logits.
  template <typename F>
  void visit(F fn) const {
    const auto masks = Scale{scale_} & ErasedMask{rules_};
    if (only_masks_) return fn(masks);
    return fn(masks & ErasedScores<ScoreStage::capped>{rules_} &
              ErasedScores<ScoreStage::biased>{rules_} & ErasedSinks{rules_});
  }

 private:
  std::shared_ptr<const AnyRules> rules_;
  double scale_ = 0;
  bool only_masks_ = false;
};

}  // namespace gqa::test
