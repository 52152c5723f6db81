// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Views, masks, rules and sources keep pointers to numbers that somebody else owns. Made from a
// temporary that owns them, they would dangle as soon as the statement ends: that doesn't compile.
#pragma once

#include <concepts>
#include <iterator>
#include <ranges>
#include <span>
#include <type_traits>

#include "gqa/core/config.hpp"
#include "gqa/core/eigen.hpp"

namespace gqa {
namespace detail {

std::false_type maps_memory(const volatile void*);
template <typename T>
std::true_type maps_memory(const Eigen::MapBase<T, Eigen::ReadOnlyAccessors>*);
template <typename T, int Options, template <typename> typename MakePointer>
std::true_type maps_memory(const Eigen::TensorMap<T, Options, MakePointer>*);

/// Types that own nothing, so that copies and temporaries of theirs will do: maps, blocks, spans. A
/// type of the user's says so as one of the standard library does, by
/// `template <> inline constexpr bool std::ranges::enable_borrowed_range<Type> = true`.
template <typename T>
inline constexpr bool borrows_memory =
    std::ranges::enable_borrowed_range<T> || decltype(maps_memory(std::declval<T*>()))::value;

/// Would a view of an argument dangle? T is what a forwarding reference T&& deduces.
template <typename T>
inline constexpr bool dangles =
    !std::is_lvalue_reference_v<T> && !borrows_memory<std::remove_cvref_t<T>>;

/// Refuses to compile for an argument of which a view would dangle.
template <typename T>
GQA_TAG constexpr void refuse_temporary() {
  static_assert(!dangles<T>,
                "gqa: these numbers belong to a temporary and would be gone when the statement "
                "ends: give them a name");
}

}  // namespace detail

/// A std::span, made from anything that a std::span is made from but a temporary that owns its
/// numbers.
template <typename T>
class Borrowed : public std::span<T> {
 public:
  GQA_TAG constexpr Borrowed() = default;
  GQA_TAG constexpr Borrowed(T* data, std::size_t size) : std::span<T>(data, size) {}
  template <typename Range>
    requires(!std::same_as<std::remove_cvref_t<Range>, Borrowed> &&
             std::convertible_to<Range&, std::span<T>>)
  GQA_TAG constexpr Borrowed(Range&& range)  // NOLINT(google-explicit-constructor)
      : std::span<T>(range) {
    detail::refuse_temporary<Range>();
  }
};

}  // namespace gqa

template <typename T>
inline constexpr bool std::ranges::enable_borrowed_range<gqa::Borrowed<T>> = true;
