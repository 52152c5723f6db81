// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// How keys and values lie in memory. A sequence's keys and values of one KV head are kept in blocks
// of 64 tokens: the block's keys, then its values, so that a head is one sequential stream.
//
//   K: [2 strips][ceil(head_dim / p)][32 keys][p]          lanes are keys: no horizontal sums
//   V: [strips of 32 channels][64 / p][32 channels][p]     lanes are channels
//
// Quantised storage keeps the scales of the block's keys and of its values after them, 64 floats
// each: they are read with what they scale.
//
// p = packing<Storage> elements of one lane lie side by side (of Int4, eight in four bytes). The
// last strip of V is 16 wide where that is enough. Channels that don't exist are zero. Sizes don't
// depend on the instruction set: 32 lanes are two registers of AVX-512, four of AVX2, eight of
// NEON.
#pragma once

#include <limits>

#include "gqa/core/error.hpp"
#include "gqa/core/math.hpp"
#include "gqa/simd/ops.hpp"

namespace gqa {

inline constexpr Index block_keys = 64;
inline constexpr Index strip_width = 32;

/// Where everything is in a block of 64 keys and values kept as `Storage`. Offsets and sizes count
/// objects of this type, unless they say bytes; but for Int4, an object is an element.
template <typename Storage>
class StripLayout {
 public:
  static constexpr Index p = packing<Storage>;
  static constexpr Index lane = lane_objects<Storage>;
  static constexpr Index per = elements_per<Storage>;

  /// Throws std::length_error for rows so wide that an Index doesn't count the bytes of a block.
  GQA_TAG StripLayout(Index head_dim, Index value_dim)
      : head_dim_(head_dim), value_dim_(value_dim) {
    constexpr Index widest =
        (std::numeric_limits<Index>::max)() / (4 * block_keys * Index{sizeof(double)});
    if (head_dim > widest || value_dim > widest) {
      detail::throw_length_error({"a block of ", block_keys, " keys and values with head_dim ",
                                  head_dim, " and value_dim ", value_dim, " takes more bytes than ",
                                  std::numeric_limits<Index>::digits, " bits count"});
    }
  }

  GQA_TAG Index head_dim() const { return head_dim_; }
  GQA_TAG Index value_dim() const { return value_dim_; }

  /// head_dim and value_dim with the padding of zeros.
  GQA_TAG Index padded_head_dim() const { return round_up(head_dim_, p); }
  GQA_TAG Index padded_value_dim() const { return round_up(value_dim_, strip_width / 2); }

  GQA_TAG Index value_begin() const { return block_keys * padded_head_dim() / per; }
  GQA_TAG Index block_elements() const {
    constexpr Index scales = is_quantized<Storage> ? 2 * block_keys * Index{sizeof(float)} : 0;
    return scales_begin() + scales;
  }
  GQA_TAG Index block_bytes() const {
    return block_elements() * Index{sizeof(detail::Native<Storage>)};
  }

  /// What a token costs of a KV head's memory, padding excluded.
  GQA_TAG Index token_bytes() const {
    return (ceil_div(head_dim_, per) + ceil_div(value_dim_, per)) *
               Index{sizeof(detail::Native<Storage>)} +
           (is_quantized<Storage> ? 2 * Index{sizeof(float)} : 0);
  }
  /// The scales of a block's 64 keys, and of its 64 values. Block: Storage, const or not.
  template <typename Block>
  GQA_TAG auto* key_scales(Block* block) const
    requires is_quantized<Storage>
  {
    using Float = std::conditional_t<std::is_const_v<Block>, const float, float>;
    return reinterpret_cast<Float*>(block + scales_begin());
  }
  template <typename Block>
  GQA_TAG auto* value_scales(Block* block) const
    requires is_quantized<Storage>
  {
    return key_scales(block) + block_keys;
  }

  /// From one of K's strips to the other.
  GQA_TAG Index key_strip_elements() const { return strip_width * padded_head_dim() / per; }
  /// From one of V's strips to the next.
  GQA_TAG static constexpr Index value_strip_elements() { return strip_width * block_keys / per; }
  /// Channels in V's strip `s`, padding included: 32, or 16 in the last one.
  GQA_TAG Index value_strip_width(Index s) const {
    const Index rest = padded_value_dim() - s * strip_width;
    return rest < strip_width ? rest : strip_width;
  }

  /// Offset in the block of a channel of the key of token `t`, 0 <= t < 64, and which of the
  /// object's elements it is.
  GQA_TAG Index key_offset(Index t, Index channel) const {
    return (t / strip_width) * key_strip_elements() +
           (channel / p * strip_width + t % strip_width) * lane + channel % lane;
  }
  GQA_TAG static constexpr Index key_half(Index channel) { return channel % p / lane; }
  /// The same of the value of token `t`.
  GQA_TAG Index value_offset(Index t, Index channel) const {
    const Index s = channel / strip_width;
    return value_begin() + s * value_strip_elements() +
           (t / p * value_strip_width(s) + channel % strip_width) * lane + t % lane;
  }
  GQA_TAG static constexpr Index value_half(Index t) { return t % p / lane; }

 private:
  GQA_TAG Index scales_begin() const {
    return value_begin() + block_keys * padded_value_dim() / per;
  }

  Index head_dim_;
  Index value_dim_;
};

}  // namespace gqa
