// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Rules: masks and score rules put together with &, as in
//
//   Causal{} & SlidingWindow::from_hf(1024) & KeepFirst{4} & SoftCap{50.0f}
//
// Masks hide what any of them hides; KeepFirst makes its exception to windows only. rules(a, b, …)
// says the same where all parts are the user's own.
#pragma once

#include <tuple>

#include "gqa/score/rule.hpp"

namespace gqa {

namespace detail {

template <typename P>
concept HasScale = std::same_as<P, Scale>;
template <typename P>
concept HasSink = requires(const P& part) { part.sink(Index{}); };
template <typename P>
concept HasCheck = requires(const P& part, const AttentionShape& shape) { part.check(shape); };

/// A ScoreRule that takes several keys at a time, beside score() for one.
template <typename P, typename T>
concept HasPackScores = requires(const P& part, simd::Pack<T> x, const Where& first) {
  { part.scores(x, first) } -> std::same_as<simd::Pack<T>>;
};

/// A DifferentiableScoreRule that takes several keys at a time.
template <typename P, typename T>
concept HasPackDerivatives =
    HasPackScores<P, T> &&
    (IsShift<P> || requires(const P& part, simd::Pack<T> x, const Where& first) {
      { part.derivatives(x, first) } -> std::same_as<simd::Pack<T>>;
    });

/// A bias whose numbers may be asked a gradient of.
template <typename P>
inline constexpr bool is_additive_bias = false;
template <typename T>
inline constexpr bool is_additive_bias<AdditiveBias<T>> = true;
template <typename P>
inline constexpr bool is_relative_bias = std::same_as<P, RelativeBias>;

enum class MaskKind { none, plain, window, exception };

template <typename P>
GQA_TAG constexpr MaskKind mask_kind() {
  if constexpr (!Mask<P>) {
    return MaskKind::none;
  } else if constexpr (requires { P::is_window; }) {
    return MaskKind::window;
  } else if constexpr (requires { P::is_exception; }) {
    return MaskKind::exception;
  } else {
    return MaskKind::plain;
  }
}

/// A mask of which each query sees a stretch of keys.
template <typename P>
concept HasRange = Mask<P> && requires(const P& part, const Where& where) {
  { part.range(where) } -> std::same_as<KeyRange>;
};

template <typename P>
GQA_TAG constexpr bool is_per_head() {
  if constexpr (requires { P::per_head; }) {
    return P::per_head;
  } else {
    return false;
  }
}

/// Does this very mask look at the head?
template <Mask P>
GQA_TAG bool differs_by_head(const P& mask) {
  if constexpr (is_per_head<P>() && requires { mask.differs_by_head(); }) {
    return mask.differs_by_head();
  } else {
    return is_per_head<P>();
  }
}

template <typename P>
GQA_TAG constexpr ScoreStage stage_of() {
  if constexpr (requires { P::stage; }) {
    return P::stage;
  } else {
    return ScoreStage::biased;
  }
}

}  // namespace detail

/// Something that & accepts: a Mask, a ScoreRule, Scale or SinkLogits.
template <typename P>
concept RulePart = Mask<P> || ScoreRule<P> || detail::HasScale<P> || detail::HasSink<P>;

/// Several parts as one; itself a Mask. A part may be mask and score rule at once.
template <RulePart... Parts>
class Rules {
 public:
  GQA_TAG explicit Rules(std::tuple<Parts...> parts) : parts_(std::move(parts)) {}

  static constexpr bool has_scores = (ScoreRule<Parts> || ...);
  static constexpr bool has_sinks = (detail::HasSink<Parts> || ...);
  static constexpr bool per_head = (detail::is_per_head<Parts>() || ...);
  static_assert((int{detail::HasScale<Parts>} + ... + 0) <= 1, "Rules: more than one Scale");
  static_assert((int{detail::HasSink<Parts>} + ... + 0) <= 1, "Rules: more than one SinkLogits");

  /// Throws std::invalid_argument if a part doesn't fit the call.
  GQA_TAG void check(const AttentionShape& shape) const {
    each([&](const auto& part) {
      if constexpr (detail::HasCheck<std::remove_cvref_t<decltype(part)>>) part.check(shape);
    });
  }

  GQA_TAG bool visible(const Where& where) const {
    bool windows = true, exception = false, rest = true;
    each([&]<typename P>(const P& part) {
      constexpr auto kind = detail::mask_kind<P>();
      if constexpr (kind == detail::MaskKind::plain) rest = rest && part.visible(where);
      if constexpr (kind == detail::MaskKind::window) windows = windows && part.visible(where);
      if constexpr (kind == detail::MaskKind::exception) {
        exception = exception || part.visible(where);
      }
    });
    return rest && (windows || exception);
  }

  /// Does each query see a stretch of keys?
  static constexpr bool has_range = ((!Mask<Parts> || detail::HasRange<Parts>)&&...);
  /// The keys that the query of `where` sees, counted from the key of `where`.
  GQA_TAG KeyRange range(const Where& where) const
    requires has_range
  {
    KeyRange seen;
    each([&]<typename P>(const P& part) {
      if constexpr (Mask<P>) seen = both(seen, part.range(where));
    });
    const auto within = [](Index x) { return std::clamp(x, KeyRange::first, KeyRange::last); };
    return {within(seen.begin), within(seen.end)};
  }

  GQA_TAG Coverage tile(const Tile& tile) const {
    Coverage windows = Coverage::full, exception = Coverage::skip, rest = Coverage::full;
    each([&]<typename P>(const P& part) {
      constexpr auto kind = detail::mask_kind<P>();
      if constexpr (kind == detail::MaskKind::plain) rest = both(rest, part.tile(tile));
      if constexpr (kind == detail::MaskKind::window) windows = both(windows, part.tile(tile));
      if constexpr (kind == detail::MaskKind::exception) {
        exception = either(exception, part.tile(tile));
      }
    });
    return both(rest, either(windows, exception));
  }

  /// Does one of the masks look at the head?
  GQA_TAG bool differs_by_head() const {
    bool differs = false;
    each([&]<typename P>(const P& part) {
      if constexpr (Mask<P>) differs = differs || detail::differs_by_head(part);
    });
    return differs;
  }

  /// tile() for query heads [first_head, first_head + num_heads): what they agree on, or partial.
  GQA_TAG Coverage tile(Tile tile, Index first_head, Index num_heads) const {
    tile.head = first_head;
    Coverage seen = this->tile(tile);
    const Index heads = per_head && differs_by_head() ? num_heads : 1;
    for (Index h = 1; h < heads && seen != Coverage::partial; ++h) {
      tile.head = first_head + h;
      if (this->tile(tile) != seen) seen = Coverage::partial;
    }
    return seen;
  }

  /// The factor of q·k.
  GQA_TAG double scale(Index head_dim) const {
    double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
    each([&]<typename P>(const P& part) {
      if constexpr (detail::HasScale<P>) scale = part.scale;
    });
    return scale;
  }

  /// The score rules of one stage applied to a scaled score.
  template <ScoreStage Stage, typename T>
  GQA_TAG T score_stage(T x, const Where& where) const {
    each([&]<typename P>(const P& part) {
      if constexpr (ScoreRule<P>) {
        if constexpr (detail::stage_of<P>() == Stage) x = part.score(x, where);
      }
    });
    return x;
  }

  /// All score rules, in the order of their stages, applied to a scaled score.
  template <typename T>
  GQA_TAG T score(T x, const Where& where) const {
    return score_stage<ScoreStage::biased>(score_stage<ScoreStage::capped>(x, where), where);
  }

  /// Can scores() be asked, of packs of T?
  template <typename T>
  static constexpr bool has_pack_scores =
      ((!ScoreRule<Parts> || detail::HasPackScores<Parts, T>)&&...);

  /// The same for consecutive keys, the first of which `first` describes.
  template <typename T>
  GQA_TAG simd::Pack<T> scores(simd::Pack<T> x, const Where& first) const {
    const auto apply = [&]<typename P>(const P& part, ScoreStage stage) {
      if constexpr (ScoreRule<P>) {
        if (detail::stage_of<P>() == stage) x = part.scores(x, first);
      }
    };
    each([&](const auto& part) { apply(part, ScoreStage::capped); });
    each([&](const auto& part) { apply(part, ScoreStage::biased); });
    return x;
  }

  // --- for the gradient ---

  /// Can the gradient pass through all score rules?
  static constexpr bool is_differentiable =
      ((!ScoreRule<Parts> || DifferentiableScoreRule<Parts>)&&...);
  /// Do all score rules only add?
  static constexpr bool only_shifts = ((!ScoreRule<Parts> || detail::IsShift<Parts>)&&...);
  static constexpr int num_additive_biases = (int{detail::is_additive_bias<Parts>} + ... + 0);
  static constexpr int num_relative_biases = (int{detail::is_relative_bias<Parts>} + ... + 0);
  /// Can score_derivatives() be asked, of packs of T?
  template <typename T>
  static constexpr bool has_pack_derivatives =
      ((!ScoreRule<Parts> || detail::HasPackDerivatives<Parts, T>)&&...);

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
    each([&]<typename P>(const P& part) {
      if constexpr (ScoreRule<P>) {
        if constexpr (detail::stage_of<P>() == Stage) {
          if constexpr (detail::is_additive_bias<P> || detail::is_relative_bias<P>) {
            at.of_bias = 1;  // what comes before it doesn't act on it
          } else if constexpr (!detail::IsShift<P>) {
            const T derivative = part.derivative(at.score, where);
            at.of_score *= derivative;
            at.of_bias *= derivative;
          }
          at.score = part.score(at.score, where);
        }
      }
    });
    return at;
  }
  /// All score rules, in the order of their stages, applied to a scaled score.
  template <typename T>
  GQA_TAG Derivative<T> score_derivative(T x, const Where& where) const {
    return derivative_stage<ScoreStage::biased>(
        derivative_stage<ScoreStage::capped>(Derivative<T>{.score = x}, where), where);
  }

  /// The same for consecutive keys, without a bias: x becomes the scores, the result is their
  /// derivatives.
  template <typename T>
  GQA_TAG simd::Pack<T> score_derivatives(simd::Pack<T>& x, const Where& first) const {
    auto derivatives = simd::Pack<T>::broadcast(T(1));
    const auto apply = [&]<typename P>(const P& part, ScoreStage stage) {
      if constexpr (ScoreRule<P>) {
        if (detail::stage_of<P>() != stage) return;
        if constexpr (!detail::IsShift<P>) derivatives = derivatives * part.derivatives(x, first);
        x = part.scores(x, first);
      }
    };
    each([&](const auto& part) { apply(part, ScoreStage::capped); });
    each([&](const auto& part) { apply(part, ScoreStage::biased); });
    return derivatives;
  }

  /// The sink logit of a head; -inf, which takes no part, without SinkLogits.
  GQA_TAG float sink([[maybe_unused]] Index head) const {
    float sink = -std::numeric_limits<float>::infinity();
    each([&]<typename P>(const P& part) {
      if constexpr (detail::HasSink<P>) sink = part.sink(head);
    });
    return sink;
  }

  GQA_TAG const std::tuple<Parts...>& parts() const { return parts_; }

 private:
  template <typename F>
  GQA_TAG void each(F f) const {
    std::apply([&](const auto&... part) { (f(part), ...); }, parts_);
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

/// A single part or Rules.
template <typename T>
concept RulesOrPart = detail::is_rules<T> || RulePart<T>;

/// A part by itself as Rules; Rules as they are, without a copy (parts may own memory), but for
/// temporary ones, which are moved.
template <typename T>
  requires RulesOrPart<std::remove_cvref_t<T>>
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
template <RulesOrPart... Parts>
GQA_TAG auto rules(Parts... parts) {
  return detail::make_rules(std::tuple_cat(detail::parts_of(std::move(parts))...));
}

template <RulesOrPart A, RulesOrPart B>
GQA_TAG auto operator&(A a, B b) {
  return detail::make_rules(
      std::tuple_cat(detail::parts_of(std::move(a)), detail::parts_of(std::move(b))));
}

static_assert(Mask<decltype(Causal{} & SlidingWindow{} & SoftCap{})>);

}  // namespace gqa
