// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Rules as kernels see them: a list of parts, each a pointer and the functions of its type. Kernels
// ask about a tile of queries and keys, or about up to 64 keys of one query at a time, so that a
// call costs nothing beside the products, and are compiled once for all rules.
#pragma once

#include <optional>
#include <span>

#include "gqa/core/math.hpp"
#include "gqa/score/rule.hpp"

namespace gqa {
namespace detail {

/// What a part is beside what its functions say.
enum class PartKind { other, scale, additive_bias, relative_bias };

/// How a mask joins the others: what any of them hides is hidden, but an exception shows what only
/// windows hide.
enum class MaskKind { none, plain, window, exception };

// --- what a type of parts can do ---

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
inline constexpr bool is_bias = is_additive_bias<P> || std::same_as<P, RelativeBias>;

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

/// A mask that says of its values whether it looks at the head.
template <typename P>
concept DiffersByHead = requires(const P& mask) { mask.differs_by_head(); };

template <typename P>
GQA_TAG constexpr ScoreStage stage_of() {
  if constexpr (requires { P::stage; }) {
    return P::stage;
  } else {
    return ScoreStage::biased;
  }
}

// --- the same of a part whose type is forgotten ---

/// Functions of a mask or ScoreRule that are about scores; all are given the query and the first of
/// several consecutive keys.
template <typename T>
struct ScoreFunctions {
  using Hide = void(const void* part, const Where& first, Index keys, T* scores);
  using Score = void(const void* part, const Where& first, Index keys, T* scores, T factor);
  using Derivative = void(const void* part, const Where& first, Index keys, T* scores, T* of_score,
                          T* of_bias);

  Hide* hide = nullptr;              ///< -inf for what a mask hides
  Score* score = nullptr;            ///< what the rule makes of them, times the factor
  Derivative* derivative = nullptr;  ///< null: it has none
  // The same in packs, of which the last may go beyond the keys; null: it can't.
  Score* pack_score = nullptr;
  Derivative* pack_derivative = nullptr;
};

/// What a part of the rules can be asked; null is a question that doesn't arise.
struct PartFunctions {
  void* (*copy)(const void* part) = nullptr;  ///< for RuleSet, which owns its parts
  void (*destroy)(void* part) = nullptr;
  PartKind kind = PartKind::other;
  void (*check)(const void* part, const AttentionShape& shape) = nullptr;

  MaskKind mask = MaskKind::none;
  bool per_head = false;
  bool (*differs_by_head)(const void* part) = nullptr;  ///< null: if it is per_head
  Coverage (*tile)(const void* part, const Tile& tile) = nullptr;
  KeyRange (*range)(const void* part, const Where& where) = nullptr;
  /// Asks visible() for those of the keys for which seen[i] == asked, and puts the answers there.
  void (*see)(const void* part, const Where& first, Index keys, bool asked, bool* seen) = nullptr;

  bool is_score_rule = false;
  bool is_shift = false;
  ScoreStage stage = ScoreStage::biased;
  ScoreFunctions<float> f32 = {};
  ScoreFunctions<double> f64 = {};

  const DenseShape& (*bias_shape)(const void* part) = nullptr;  ///< of an additive_bias
  float (*sink)(const void* part, Index head) = nullptr;

  template <typename T>
  GQA_TAG const ScoreFunctions<T>& scores() const {
    if constexpr (std::same_as<T, float>) {
      return f32;
    } else {
      return f64;
    }
  }
};

/// A part whose type is forgotten. It is not owned.
struct AnyPart {
  const void* part = nullptr;
  const PartFunctions* functions = nullptr;
};

GQA_TAG inline Where key_after(Where first, Index i) {
  first.k_index += i;
  first.k_pos += i;
  return first;
}

inline namespace GQA_ISA {

/// The functions of a part of type P.
template <typename P>
struct PartOf {
  static const P& of(const void* part) { return *static_cast<const P*>(part); }

  static void* copy(const void* part) { return new P(of(part)); }
  static void destroy(void* part) { delete static_cast<P*>(part); }
  static void check(const void* part, const AttentionShape& shape) { of(part).check(shape); }
  static bool differs_by_head(const void* part) { return of(part).differs_by_head(); }
  static Coverage tile(const void* part, const Tile& tile) { return of(part).tile(tile); }
  static KeyRange range(const void* part, const Where& where) { return of(part).range(where); }
  static void see(const void* part, const Where& first, Index keys, bool asked, bool* seen) {
    for (Index i = 0; i < keys; ++i) {
      if (seen[i] == asked) seen[i] = of(part).visible(key_after(first, i));
    }
  }
  static float sink(const void* part, Index head) { return of(part).sink(head); }
  static const DenseShape& bias_shape(const void* part) { return of(part).values.shape(); }

  template <typename T>
  static void hide(const void* part, const Where& first, Index keys, T* x) {
    for (Index i = 0; i < keys; ++i) {
      x[i] = of(part).visible(key_after(first, i)) ? x[i] : -std::numeric_limits<T>::infinity();
    }
  }
  template <typename T>
  static void score(const void* part, const Where& first, Index keys, T* x, T factor) {
    for (Index i = 0; i < keys; ++i) x[i] = of(part).score(x[i], key_after(first, i)) * factor;
  }
  template <typename T>
  static void pack_score(const void* part, const Where& first, Index keys, T* x, T factor) {
    using Pack = simd::Pack<T>;
    const P& rule = of(part);
    for (Index i = 0; i < keys; i += Pack::size) {
      const Pack scores = rule.scores(Pack::load(x + i), key_after(first, i));
      (scores * Pack::broadcast(factor)).store(x + i);
    }
  }
  template <typename T>
  static void derivative(const void* part, const Where& first, Index keys, T* x, T* of_score,
                         T* of_bias) {
    for (Index i = 0; i < keys; ++i) {
      const Where where = key_after(first, i);
      if constexpr (is_bias<P>) {
        of_bias[i] = 1;  // what comes before it doesn't act on it
      } else if constexpr (!IsShift<P>) {
        const T derivative = of(part).derivative(x[i], where);
        of_score[i] *= derivative;
        of_bias[i] *= derivative;
      }
      x[i] = of(part).score(x[i], where);
    }
  }
  template <typename T>
  static void pack_derivative(const void* part, const Where& first, Index keys, T* x, T* of_score,
                              T*) {
    using Pack = simd::Pack<T>;
    for (Index i = 0; i < keys; i += Pack::size) {
      const Where where = key_after(first, i);
      const Pack scores = Pack::load(x + i);
      if constexpr (!IsShift<P>) {
        (Pack::load(of_score + i) * of(part).derivatives(scores, where)).store(of_score + i);
      }
      of(part).scores(scores, where).store(x + i);
    }
  }
};

template <typename P, typename T>
constexpr ScoreFunctions<T> score_functions() {
  using Part = PartOf<P>;
  ScoreFunctions<T> f;
  if constexpr (Mask<P>) f.hide = Part::template hide<T>;
  if constexpr (ScoreRule<P>) f.score = Part::template score<T>;
  if constexpr (DifferentiableScoreRule<P>) f.derivative = Part::template derivative<T>;
  if constexpr (HasPackScores<P, T>) f.pack_score = Part::template pack_score<T>;
  if constexpr (HasPackDerivatives<P, T>) f.pack_derivative = Part::template pack_derivative<T>;
  return f;
}
template <typename P>
constexpr PartFunctions make_part_functions() {
  using Part = PartOf<P>;
  PartFunctions f{.copy = Part::copy, .destroy = Part::destroy};
  if constexpr (HasCheck<P>) f.check = Part::check;
  if constexpr (Mask<P>) {
    f.mask = mask_kind<P>();
    f.per_head = is_per_head<P>();
    f.tile = Part::tile;
    f.see = Part::see;
    if constexpr (HasRange<P>) f.range = Part::range;
    if constexpr (DiffersByHead<P>) f.differs_by_head = Part::differs_by_head;
  }
  if constexpr (ScoreRule<P>) {
    f.is_score_rule = true;
    f.is_shift = IsShift<P>;
    f.stage = stage_of<P>();
  }
  f.f32 = score_functions<P, float>();
  f.f64 = score_functions<P, double>();
  if constexpr (HasSink<P>) f.sink = Part::sink;
  if constexpr (HasScale<P>) f.kind = PartKind::scale;
  if constexpr (std::same_as<P, RelativeBias>) f.kind = PartKind::relative_bias;
  if constexpr (is_additive_bias<P>) {
    f.kind = PartKind::additive_bias;
    f.bias_shape = Part::bias_shape;
  }
  return f;
}
template <typename P>
inline constexpr PartFunctions part_functions = make_part_functions<P>();

template <typename P>
AnyPart any_part(const P& part) {
  return {&part, &part_functions<P>};
}

/// All parts of a call together.
class RulesView {
 public:
  /// `scale` is what takes the place of 1 / sqrt(head_dim), unless a part does.
  explicit RulesView(std::span<const AnyPart> parts, std::optional<double> scale = {})
      : parts_(parts), scale_(scale) {
    for (const AnyPart& any : parts) {
      const auto& [part, f] = any;
      score_rules_ += f->is_score_rule;
      if (f->is_score_rule) a_score_rule_ = &any;
      has_sinks_ |= f->sink != nullptr;
      if (f->mask != MaskKind::none) {
        has_range_ &= f->range != nullptr;
        has_exceptions_ |= f->mask == MaskKind::exception;
        differs_by_head_ |= f->per_head && (!f->differs_by_head || f->differs_by_head(part));
      }
      if (f->is_score_rule) {
        only_shifts_ &= f->is_shift;
        is_differentiable_ &= f->f32.derivative != nullptr;
        packs_f32_ &= Packs(f->f32);
        packs_f64_ &= Packs(f->f64);
      }
    }
  }

  std::span<const AnyPart> parts() const { return parts_; }
  bool has_scores() const { return score_rules_ > 0; }
  bool has_sinks() const { return has_sinks_; }
  /// Does each query see a stretch of keys?
  bool has_range() const { return has_range_; }
  /// Does one of the masks look at the head?
  bool differs_by_head() const { return differs_by_head_; }
  /// Can the gradient pass through all score rules, and do they only add?
  bool is_differentiable() const { return is_differentiable_; }
  bool only_shifts() const { return only_shifts_; }
  /// The part of a kind, and how many there are of it.
  const AnyPart* find(PartKind kind) const {
    for (const AnyPart& part : parts_) {
      if (part.functions->kind == kind) return &part;
    }
    return nullptr;
  }
  Index count(PartKind kind) const {
    Index n = 0;
    for (const AnyPart& part : parts_) n += part.functions->kind == kind;
    return n;
  }

  /// Throws std::invalid_argument if a part doesn't fit the call.
  GQA_NOINLINE void check(const AttentionShape& shape) const {
    for (const auto& [part, f] : parts_) {
      if (f->check) f->check(part, shape);
    }
  }
  /// The factor of q·k.
  GQA_NOINLINE double scale(Index head_dim) const {
    const AnyPart* given = find(PartKind::scale);
    return given ? static_cast<const Scale*>(given->part)->scale
                 : scale_.value_or(1.0 / std::sqrt(static_cast<double>(head_dim)));
  }
  /// The sink logit of a head; -inf, which takes no part, without SinkLogits.
  float sink(Index head) const {
    for (const auto& [part, f] : parts_) {
      if (f->sink) return f->sink(part, head);
    }
    return -std::numeric_limits<float>::infinity();
  }

  // --- masks ---

  GQA_NOINLINE Coverage tile(const Tile& tile) const {
    Coverage windows = Coverage::full, exception = Coverage::skip, rest = Coverage::full;
    for (const auto& [part, f] : parts_) {
      if (f->mask == MaskKind::plain) rest = both(rest, f->tile(part, tile));
      if (f->mask == MaskKind::window) windows = both(windows, f->tile(part, tile));
      if (f->mask == MaskKind::exception) exception = either(exception, f->tile(part, tile));
    }
    return both(rest, either(windows, exception));
  }
  /// The same for query heads [first_head, first_head + num_heads): what they agree on, or partial.
  GQA_NOINLINE Coverage tile(Tile tile, Index first_head, Index num_heads) const {
    tile.head = first_head;
    Coverage seen = this->tile(tile);
    for (Index h = 1; differs_by_head_ && h < num_heads && seen != Coverage::partial; ++h) {
      tile.head = first_head + h;
      if (this->tile(tile) != seen) seen = Coverage::partial;
    }
    return seen;
  }
  /// Which of consecutive keys the query of `first` sees, `first` being that of the first key.
  GQA_NOINLINE void see(const Where& first, Index keys, bool* seen) const {
    std::fill_n(seen, keys, true);
    const auto ask = [&](MaskKind kind, bool asked) {
      for (const auto& [part, f] : parts_) {
        if (f->mask == kind) f->see(part, first, keys, asked, seen);
      }
    };
    ask(MaskKind::window, true);
    ask(MaskKind::exception, false);
    ask(MaskKind::plain, true);
  }
  bool visible(const Where& where) const {
    bool seen;
    see(where, 1, &seen);
    return seen;
  }
  /// The keys that the query of `where` sees, counted from the key of `where`, if has_range().
  GQA_NOINLINE KeyRange range(const Where& where) const {
    KeyRange seen;
    for (const auto& [part, f] : parts_) {
      if (f->range) seen = both(seen, f->range(part, where));
    }
    const auto within = [](Index x) { return std::clamp(x, KeyRange::first, KeyRange::last); };
    return {within(seen.begin), within(seen.end)};
  }

  /// Gives scores of consecutive keys -inf where the query of `first` doesn't see them.
  template <typename T>
  GQA_NOINLINE void hide(const Where& first, Index keys, T* x) const {
    constexpr Index most = 64;
    for (Index begin = 0; has_exceptions_ && begin < keys; begin += most) {
      const Index count = (std::min)(most, keys - begin);
      bool seen[most];
      see(key_after(first, begin), count, seen);
      for (Index i = 0; i < count; ++i) {
        x[begin + i] = seen[i] ? x[begin + i] : -std::numeric_limits<T>::infinity();
      }
    }
    for (const auto& [part, f] : parts_) {
      if (!has_exceptions_ && f->mask != MaskKind::none) {
        f->template scores<T>().hide(part, first, keys, x);
      }
    }
  }

  // --- scores of consecutive keys, scaled, the first of which `first` describes ---

  /// All score rules, in the order of their stages, and then times a factor. x has room for whole
  /// packs.
  template <typename T>
  GQA_NOINLINE void score(const Where& first, Index keys, T* x, T factor) const {
    if (score_rules_ == 1) {
      const ScoreFunctions<T>& of = a_score_rule_->functions->template scores<T>();
      return (packs<T>().score ? of.pack_score : of.score)(a_score_rule_->part, first, keys, x,
                                                           factor);
    }
    int left = score_rules_;
    for (const ScoreStage stage : {ScoreStage::capped, ScoreStage::biased}) {
      for (const auto& [part, f] : parts_) {
        if (!f->is_score_rule || f->stage != stage) continue;
        const ScoreFunctions<T>& of = f->template scores<T>();
        (packs<T>().score ? of.pack_score : of.score)(part, first, keys, x,
                                                      --left == 0 ? factor : T(1));
      }
    }
  }
  /// Those of one stage, one key at a time.
  template <typename T>
  void score_stage(ScoreStage stage, const Where& first, Index keys, T* x) const {
    for (const auto& [part, f] : parts_) {
      if (f->is_score_rule && f->stage == stage) {
        f->template scores<T>().score(part, first, keys, x, T(1));
      }
    }
  }
  template <typename T>
  void derivative_stage(ScoreStage stage, const Where& first, Index keys, T* x, T* of_score,
                        T* of_bias) const {
    for (const auto& [part, f] : parts_) {
      if (f->is_score_rule && f->stage == stage) {
        f->template scores<T>().derivative(part, first, keys, x, of_score, of_bias);
      }
    }
  }
  /// score(), and its derivatives: in what the rules are given, and in the bias among them.
  template <typename T>
  GQA_NOINLINE void derivative(const Where& first, Index keys, T* x, T* of_score,
                               T* of_bias) const {
    const bool in_packs = packs<T>().derivative;
    const Index filled = in_packs ? round_up(keys, simd::Pack<T>::size) : keys;
    std::fill_n(of_score, filled, T(1));
    std::fill_n(of_bias, filled, T(1));
    for (const ScoreStage stage : {ScoreStage::capped, ScoreStage::biased}) {
      for (const auto& [part, f] : parts_) {
        if (!f->is_score_rule || f->stage != stage) continue;
        const ScoreFunctions<T>& of = f->template scores<T>();
        (in_packs ? of.pack_derivative : of.derivative)(part, first, keys, x, of_score, of_bias);
      }
    }
  }

 private:
  /// Which questions all score rules answer in packs.
  struct Packs {
    bool score = true;
    bool derivative = true;

    Packs() = default;
    template <typename T>
    explicit Packs(const ScoreFunctions<T>& f)
        : score(f.pack_score != nullptr), derivative(f.pack_derivative != nullptr) {}
    Packs& operator&=(const Packs& other) {
      score &= other.score;
      derivative &= other.derivative;
      return *this;
    }
  };
  template <typename T>
  const Packs& packs() const {
    return std::same_as<T, float> ? packs_f32_ : packs_f64_;
  }

  std::span<const AnyPart> parts_;
  std::optional<double> scale_;
  int score_rules_ = 0;
  const AnyPart* a_score_rule_ = nullptr;
  bool has_exceptions_ = false;
  bool has_sinks_ = false;
  bool has_range_ = true;
  bool differs_by_head_ = false;
  bool only_shifts_ = true;
  bool is_differentiable_ = true;
  Packs packs_f32_, packs_f64_;
};

}  // namespace GQA_ISA
}  // namespace detail
}  // namespace gqa
