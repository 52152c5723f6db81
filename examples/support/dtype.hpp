// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The element types of safetensors files: their names, their sizes, the C++ type of each that has
// one. The others (8 bits and fewer of floating point, complex numbers) can be copied, not read.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <gqa/core/eigen.hpp>
#include <gqa/core/scalar.hpp>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <type_traits>

namespace gqa::examples {

/// All that the format knows, the ones without a C++ type last.
enum class DType {
  boolean,
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  u64,
  i64,
  f16,
  bf16,
  f32,
  f64,
  f4,
  f6_e2m3,
  f6_e3m2,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  c64
};

struct DTypeInfo {
  DType dtype;
  std::string_view name;  ///< as the safetensors header spells it
  std::size_t bits;       ///< of one element
};

inline constexpr std::array<DTypeInfo, 22> all_dtypes = {{
    {DType::boolean, "BOOL", 8},
    {DType::u8, "U8", 8},
    {DType::i8, "I8", 8},
    {DType::u16, "U16", 16},
    {DType::i16, "I16", 16},
    {DType::u32, "U32", 32},
    {DType::i32, "I32", 32},
    {DType::u64, "U64", 64},
    {DType::i64, "I64", 64},
    {DType::f16, "F16", 16},
    {DType::bf16, "BF16", 16},
    {DType::f32, "F32", 32},
    {DType::f64, "F64", 64},
    {DType::f4, "F4", 4},
    {DType::f6_e2m3, "F6_E2M3", 6},
    {DType::f6_e3m2, "F6_E3M2", 6},
    {DType::f8_e5m2, "F8_E5M2", 8},
    {DType::f8_e4m3, "F8_E4M3", 8},
    {DType::f8_e8m0, "F8_E8M0", 8},
    {DType::f8_e4m3fnuz, "F8_E4M3FNUZ", 8},
    {DType::f8_e5m2fnuz, "F8_E5M2FNUZ", 8},
    {DType::c64, "C64", 64},
}};

constexpr std::string_view name_of(DType dtype) {
  return all_dtypes[static_cast<std::size_t>(dtype)].name;
}
constexpr std::size_t bits_of(DType dtype) {
  return all_dtypes[static_cast<std::size_t>(dtype)].bits;
}
/// Of one element; those of less than a byte have none of their own, and give 1.
constexpr std::size_t bytes_of(DType dtype) { return (bits_of(dtype) + 7) / 8; }
static_assert(std::ranges::all_of(all_dtypes,
                                  [](const DTypeInfo& info) {
                                    return &info ==
                                           &all_dtypes[static_cast<std::size_t>(info.dtype)];
                                  }),
              "all_dtypes is listed in the order of DType");

/// The type with this name, if these examples know it.
constexpr std::optional<DType> dtype_named(std::string_view name) {
  for (const DTypeInfo& info : all_dtypes) {
    if (info.name == name) return info.dtype;
  }
  return std::nullopt;
}

namespace detail {
template <typename T>
inline constexpr bool is_sixteen_bit_float =
    std::same_as<T, Eigen::half> || std::same_as<T, Eigen::bfloat16>;
}  // namespace detail

/// A C++ type that tensors of a file can have.
template <typename T>
concept FileElement = std::same_as<T, bool> || std::same_as<T, float> || std::same_as<T, double> ||
                      detail::is_sixteen_bit_float<T> ||
                      (std::integral<T> && !std::same_as<T, char> && sizeof(T) <= 8);

/// The DType whose elements are T.
template <FileElement T>
constexpr DType dtype_of() {
  if constexpr (std::same_as<T, bool>) {
    return DType::boolean;
  } else if constexpr (std::same_as<T, float>) {
    return DType::f32;
  } else if constexpr (std::same_as<T, double>) {
    return DType::f64;
  } else if constexpr (std::same_as<T, Eigen::half>) {
    return DType::f16;
  } else if constexpr (std::same_as<T, Eigen::bfloat16>) {
    return DType::bf16;
  } else if constexpr (sizeof(T) == 1) {
    return std::is_signed_v<T> ? DType::i8 : DType::u8;
  } else if constexpr (sizeof(T) == 2) {
    return std::is_signed_v<T> ? DType::i16 : DType::u16;
  } else if constexpr (sizeof(T) == 4) {
    return std::is_signed_v<T> ? DType::i32 : DType::u32;
  } else {
    return std::is_signed_v<T> ? DType::i64 : DType::u64;
  }
}

/// Stands for the elements of a dtype without a C++ type.
struct NotReadable {};

/// Calls fn(T{}) with the C++ type of `dtype`, or with NotReadable.
template <typename Fn>
decltype(auto) with_type_of(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::boolean:
      return fn(bool{});
    case DType::u8:
      return fn(std::uint8_t{});
    case DType::i8:
      return fn(std::int8_t{});
    case DType::u16:
      return fn(std::uint16_t{});
    case DType::i16:
      return fn(std::int16_t{});
    case DType::u32:
      return fn(std::uint32_t{});
    case DType::i32:
      return fn(std::int32_t{});
    case DType::u64:
      return fn(std::uint64_t{});
    case DType::i64:
      return fn(std::int64_t{});
    case DType::f16:
      return fn(Eigen::half{});
    case DType::bf16:
      return fn(Eigen::bfloat16{});
    case DType::f32:
      return fn(float{});
    case DType::f64:
      return fn(double{});
    case DType::f4:
    case DType::f6_e2m3:
    case DType::f6_e3m2:
    case DType::f8_e5m2:
    case DType::f8_e4m3:
    case DType::f8_e8m0:
    case DType::f8_e4m3fnuz:
    case DType::f8_e5m2fnuz:
    case DType::c64:
      return fn(NotReadable{});
  }
  throw std::invalid_argument("not a DType");
}

}  // namespace gqa::examples
