// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Rules: masks and score rules put together with &, as in
//
//   Causal{} & SlidingWindow::from_hf(1024) & KeepFirst{4} & SoftCap{50.0f}
//
// Masks hide what any of them hides; KeepFirst makes its exception to windows only. rules(a, b, …)
// says the same where all parts are the user's own, and rule_set.hpp where they are chosen at run
// time.
#pragma once

#include <array>
#include <tuple>

#include "gqa/score/rules_view.hpp"

namespace gqa {

class RuleSet;

/// Something that & accepts: a Mask, a ScoreRule, Scale or SinkLogits.
template <typename P>
concept RulePart = Mask<P> || ScoreRule<P> || detail::HasScale<P> || detail::HasSink<P>;

/// Several parts as one; itself a Mask. A part may be mask and score rule at once.
template <RulePart... Parts>
class Rules {
 public:
  static constexpr bool has_scores = (ScoreRule<Parts> || ...);
  static constexpr bool has_sinks = (detail::HasSink<Parts> || ...);
  static constexpr bool has_range = ((!Mask<Parts> || detail::HasRange<Parts>)&&...);
  static constexpr bool per_head = (detail::is_per_head<Parts>() || ...);
  static constexpr bool is_differentiable =
      ((!ScoreRule<Parts> || DifferentiableScoreRule<Parts>)&&...);
  static_assert((int{detail::HasScale<Parts>} + ... + 0) <= 1, "Rules: more than one Scale");
  static_assert((int{detail::HasSink<Parts>} + ... + 0) <= 1, "Rules: more than one SinkLogits");

  GQA_TAG explicit Rules(std::tuple<Parts...> parts) : parts_(std::move(parts)) {}

  GQA_TAG const std::tuple<Parts...>& parts() const { return parts_; }
  /// What kernels are given: the parts, their types forgotten. They point into these rules.
  GQA_TAG auto any_parts() const {
    const auto all = [](const auto&... part) {
      return std::array<detail::AnyPart, sizeof...(Parts)>{detail::any_part(part)...};
    };
    return std::apply(all, parts_);
  }

  /// Throws std::invalid_argument if a part doesn't fit the call.
  GQA_TAG void check(const AttentionShape& shape) const {
    ask([&](auto& all) { all.check(shape); });
  }
  GQA_TAG bool visible(const Where& where) const {
    return ask([&](auto& all) { return all.visible(where); });
  }
  GQA_TAG Coverage tile(const Tile& tile) const {
    return ask([&](auto& all) { return all.tile(tile); });
  }
  /// tile() for query heads [first_head, first_head + num_heads): what they agree on, or partial.
  GQA_TAG Coverage tile(const Tile& tile, Index first_head, Index num_heads) const {
    return ask([&](auto& all) { return all.tile(tile, first_head, num_heads); });
  }
  /// The keys that the query of `where` sees, counted from the key of `where`.
  GQA_TAG KeyRange range(const Where& where) const
    requires has_range
  {
    return ask([&](auto& all) { return all.range(where); });
  }
  /// Does one of the masks look at the head?
  GQA_TAG bool differs_by_head() const {
    return ask([](auto& all) { return all.differs_by_head(); });
  }
  /// The factor of q·k.
  GQA_TAG double scale(Index head_dim) const {
    return ask([&](auto& all) { return all.scale(head_dim); });
  }
  /// The sink logit of a head; -inf, which takes no part, without SinkLogits.
  GQA_TAG float sink(Index head) const {
    return ask([&](auto& all) { return all.sink(head); });
  }

  /// The score rules of one stage applied to a scaled score.
  template <ScoreStage Stage, typename T>
  GQA_TAG T score_stage(T x, const Where& where) const {
    ask([&](auto& all) { all.score_stage(Stage, where, 1, &x); });
    return x;
  }
  /// All score rules, in the order of their stages, applied to a scaled score.
  template <typename T>
  GQA_TAG T score(T x, const Where& where) const {
    return score_stage<ScoreStage::biased>(score_stage<ScoreStage::capped>(x, where), where);
  }

  /// A score and its derivatives: in what the rules were given, and in the bias among them.
  template <typename T>
  struct Derivative {
    T score;
    T of_score = 1;
    T of_bias = 1;
  };
  /// The score rules of one stage applied to a score and its derivatives.
  template <ScoreStage Stage, typename T>
  GQA_TAG Derivative<T> derivative_stage(Derivative<T> at, const Where& where) const {
    ask([&](auto& all) {
      all.derivative_stage(Stage, where, 1, &at.score, &at.of_score, &at.of_bias);
    });
    return at;
  }

 private:
  template <typename F>
  GQA_TAG auto ask(F f) const {
    const auto parts = any_parts();
    const detail::RulesView all(parts);
    return f(all);
  }

  std::tuple<Parts...> parts_;
};

namespace detail {
template <typename T>
inline constexpr bool is_rules = false;
template <typename... P>
inline constexpr bool is_rules<Rules<P...>> = true;

template <typename T>
GQA_TAG auto parts_of(T part) {
  if constexpr (is_rules<T>) {
    return part.parts();
  } else {
    return std::tuple<T>(std::move(part));
  }
}
template <typename... Parts>
GQA_TAG auto make_rules(std::tuple<Parts...> parts) {
  return Rules<Parts...>(std::move(parts));
}
}  // namespace detail

namespace detail {
/// What is put together at compile time.
template <typename T>
concept TypedRules = is_rules<T> || RulePart<T>;
}  // namespace detail

/// Rules, a single part, or a RuleSet.
template <typename T>
concept RulesOrPart = detail::TypedRules<T> || std::same_as<T, RuleSet>;

/// A part by itself as Rules; Rules as they are, without a copy (parts may own memory), but for
/// temporary ones, which are moved.
template <typename T>
  requires detail::TypedRules<std::remove_cvref_t<T>>
GQA_TAG decltype(auto) as_rules(T&& part) {
  using Plain = std::remove_cvref_t<T>;
  if constexpr (!detail::is_rules<Plain>) {
    return Rules<Plain>(std::tuple<Plain>(std::forward<T>(part)));
  } else if constexpr (std::is_lvalue_reference_v<T>) {
    return static_cast<const Plain&>(part);
  } else {
    return Plain(std::forward<T>(part));
  }
}

/// a & b & …. Parts of the user's own need it where they meet no part of gqa's: & is looked up in
/// the namespaces of what it joins.
template <detail::TypedRules... Parts>
GQA_TAG auto rules(Parts... parts) {
  return detail::make_rules(std::tuple_cat(detail::parts_of(std::move(parts))...));
}

template <detail::TypedRules A, detail::TypedRules B>
GQA_TAG auto operator&(A a, B b) {
  return rules(std::move(a), std::move(b));
}

namespace detail {
/// The parts of rules, of one part or of a RuleSet, their types forgotten. They point into it.
template <RulesOrPart RulesT>
GQA_TAG auto any_parts(const RulesT& rules) {
  if constexpr (requires { rules.any_parts(); }) {
    return rules.any_parts();
  } else {
    return std::array<AnyPart, 1>{any_part(rules)};
  }
}
}  // namespace detail
}  // namespace gqa
