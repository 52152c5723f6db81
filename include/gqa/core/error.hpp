// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// message() and require(): errors that name the numbers that disagree. A call keeps its parts in an
// array and nothing else; the text is built out of line, where a check fails.
#pragma once

#include <concepts>
#include <cstdio>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "gqa/core/config.hpp"

namespace gqa {
namespace detail {

/// One part of a message: a string, a number, or anything with a to_string(). It refers to strings
/// and objects, which outlive the call that it is made for.
class MessagePart {
 public:
  GQA_TAG MessagePart(const char* chars) : kind_(Kind::chars) { value_.chars = chars; }
  template <typename T>
  GQA_TAG MessagePart(const T& part) {  // NOLINT(google-explicit-constructor)
    if constexpr (std::is_floating_point_v<T>) {
      kind_ = Kind::real;
      value_.real = static_cast<double>(part);
    } else if constexpr (std::is_arithmetic_v<T>) {
      kind_ = std::is_signed_v<T> ? Kind::integer : Kind::natural;
      value_.integer = static_cast<long long>(part);
    } else if constexpr (requires { to_string(part); }) {
      kind_ = Kind::object;
      value_.object = &part;
      text_of_ = &text_of<T>;
    } else {
      const std::string_view text = part;
      kind_ = Kind::text;
      value_.chars = text.data();
      size_ = text.size();
    }
  }

  GQA_TAG void append_to(std::string& text) const {
    char digits[32];  // not std::to_string(), which may be one symbol for all units: see GQA_TAG
    switch (kind_) {
      case Kind::chars:
        text += value_.chars;
        return;
      case Kind::text:
        text.append(value_.chars, size_);
        return;
      case Kind::object:
        text += text_of_(value_.object);
        return;
      case Kind::integer:
        std::snprintf(digits, sizeof digits, "%lld", value_.integer);
        break;
      case Kind::natural:
        std::snprintf(digits, sizeof digits, "%llu",
                      static_cast<unsigned long long>(value_.integer));
        break;
      case Kind::real: {
        const double size = value_.real < 0 ? -value_.real : value_.real;
        const bool plain = size == 0 || (size >= 1e-4 && size < 1e15);
        std::snprintf(digits, sizeof digits, plain ? "%f" : "%g", value_.real);
        break;
      }
    }
    text += digits;
  }

 private:
  enum class Kind { chars, text, object, integer, natural, real };

  template <typename T>
  GQA_TAG static std::string text_of(const void* object) {
    return to_string(*static_cast<const T*>(object));
  }

  Kind kind_;
  union {
    const char* chars;
    const void* object;
    long long integer;
    double real;
  } value_;
  union {
    std::size_t size_;                     // of a text
    std::string (*text_of_)(const void*);  // of an object
  };
};

using MessageParts = std::initializer_list<MessagePart>;

GQA_COLD GQA_TAG inline std::string join(MessageParts parts) {
  std::string text;
  for (const MessagePart& part : parts) part.append_to(text);
  return text;
}
[[noreturn]] GQA_COLD GQA_TAG inline void throw_invalid_argument(MessageParts parts) {
  throw std::invalid_argument(join(parts));
}
[[noreturn]] GQA_COLD GQA_TAG inline void throw_length_error(MessageParts parts) {
  throw std::length_error(join(parts));
}

}  // namespace detail

/// Builds messages like "num_kv_heads 6 does not divide num_heads 32". Parts are strings, numbers,
/// or have a to_string().
template <typename... Parts>
GQA_TAG std::string message(const Parts&... parts) {
  return detail::join({parts...});
}

/// Throws std::invalid_argument with the message built from `parts` unless `condition` holds.
/// Nothing is built, and nothing allocated, while it does.
template <typename... Parts>
GQA_TAG GQA_INLINE void require(bool condition, const Parts&... parts) {
  if (!condition) detail::throw_invalid_argument({parts...});
}

}  // namespace gqa
