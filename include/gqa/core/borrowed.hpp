// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Views, masks, rules and sources keep pointers to numbers that somebody else owns. Made from a
// temporary that owns them, they would dangle as soon as the statement ends: that doesn't compile.
#pragma once

#include <concepts>
#include <span>
#include <type_traits>

#include "gqa/core/config.hpp"

namespace gqa {
namespace detail {

/// Eigen's Map, Ref, Block and TensorMap: what keeps a pointer says of which type, what owns its
/// numbers, Matrix and Tensor, doesn't.
template <typename T>
concept MapsMemory =
    requires(const T& map) {
      typename T::PointerType;
      map.data();
    } &&
    (
        requires { T::RowsAtCompileTime; } || requires { T::NumDimensions; });

/// Types that own nothing, so that copies and temporaries of theirs will do: maps, blocks, spans. A
/// type of the user's says so as one of the standard library does, by
/// `template <> inline constexpr bool std::ranges::enable_borrowed_range<Type> = true`.
template <typename T>
inline constexpr bool borrows_memory = std::ranges::enable_borrowed_range<T> || MapsMemory<T>;

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
