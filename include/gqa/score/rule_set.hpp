// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// RuleSet: rules that are put together at run time, as a model's config file says:
//
//   RuleSet rules = Causal{};
//   if (config.sliding_window) rules.add(SlidingWindow::from_hf(*config.sliding_window));
//   if (config.soft_cap) rules.add(SoftCap{*config.soft_cap});
//
// The same calls take it, and give the same bits as for the parts joined by &.
#pragma once

#include <utility>

#include "gqa/core/unique_vector.hpp"
#include "gqa/score/rules.hpp"

namespace gqa {

/// Any number of masks, score rules, Scale and SinkLogits; without any, every query sees every key.
/// It owns copies of its parts, which keep pointers to the numbers that they were made of.
class RuleSet {
 public:
  GQA_TAG RuleSet() = default;
  /// A part, or parts joined by &.
  template <detail::TypedRules RulesT>
  GQA_TAG RuleSet(const RulesT& rules) {  // NOLINT(google-explicit-constructor)
    add(rules);
  }
  GQA_TAG RuleSet(const RuleSet& other) { add_all(other.any_parts()); }
  GQA_TAG RuleSet(RuleSet&& other) noexcept { parts_.swap(other.parts_); }
  GQA_TAG RuleSet& operator=(RuleSet other) noexcept {
    parts_.swap(other.parts_);
    return *this;
  }
  GQA_TAG ~RuleSet() { shrink(parts_, 0); }

  /// Puts copies of more parts after those that are there. Throws std::invalid_argument for a
  /// second Scale or SinkLogits, std::bad_alloc; the set is then as it was.
  template <RulesOrPart RulesT>
  GQA_TAG RuleSet& add(const RulesT& rules) {
    const auto parts = detail::any_parts(rules);
    add_all(parts);
    return *this;
  }

  GQA_TAG bool empty() const { return parts_.empty(); }
  /// What kernels are given: the parts, their types forgotten. They point into this set.
  GQA_TAG std::span<const detail::AnyPart> any_parts() const {
    return {parts_.begin(), parts_.size()};
  }

 private:
  GQA_TAG void add_all(std::span<const detail::AnyPart> parts) {
    UniqueVector<detail::AnyPart> all;  // `parts` may be this very set's
    all.reserve(parts_.size() + parts.size());
    for (const detail::AnyPart& part : parts_) all.push_back(part);
    try {
      for (const auto& [part, f] : parts) {
        const detail::RulesView before({all.begin(), all.size()});
        require(f->kind != detail::PartKind::scale || !before.find(f->kind),
                "RuleSet: more than one Scale");
        require(f->sink == nullptr || !before.has_sinks(), "RuleSet: more than one SinkLogits");
        all.push_back({f->copy(part), f});
      }
    } catch (...) {
      shrink(all, parts_.size());
      throw;
    }
    parts_.swap(all);
  }
  GQA_TAG static void shrink(UniqueVector<detail::AnyPart>& parts, std::size_t size) {
    for (; parts.size() > size; parts.pop_back()) {
      const auto& [part, f] = parts.back();
      f->destroy(const_cast<void*>(part));
    }
  }

  UniqueVector<detail::AnyPart> parts_;
};

/// A set with more parts, on either side.
template <RulesOrPart RulesT>
GQA_TAG RuleSet operator&(RuleSet set, const RulesT& rules) {
  return std::move(set.add(rules));
}
template <detail::TypedRules RulesT>
GQA_TAG RuleSet operator&(const RulesT& rules, const RuleSet& set) {
  return std::move(RuleSet(rules).add(set));
}

}  // namespace gqa
