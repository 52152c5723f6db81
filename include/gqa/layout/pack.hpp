// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Between rows (a token's head_dim numbers side by side) and strips (layout/strips.hpp).
#pragma once

#include <algorithm>
#include <cstring>

#include "gqa/core/any_source.hpp"
#include "gqa/layout/quantize.hpp"
#include "gqa/layout/strips.hpp"
#include "gqa/simd/arch.hpp"

namespace gqa {

/// Writes the key row (head_dim numbers) of token `t` of a block. Padding is not written.
template <typename Storage, Scalar T>
GQA_TAG void put_key(const StripLayout<Storage>& layout, Storage* block, Index t, const T* key) {
  constexpr Index p = packing<Storage>, lane = lane_objects<Storage>;
  Storage* k = block + layout.key_offset(t, 0);
  if constexpr (is_quantized<Storage>) {
    const float scale = scale_of<Storage>(key, layout.head_dim());
    layout.key_scales(block)[t] = scale;
    quantize<Storage>(key, layout.head_dim(), scale, [&](Index c, std::int8_t x) {
      set_integer(k[c / p * (strip_width * lane) + c % lane], layout.key_half(c), x);
    });
  } else {
    const auto put = [&](Index c, Storage x) { k[c / p * (strip_width * p) + c % p] = x; };
    for (Index c = 0; c < layout.head_dim(); ++c) put(c, convert<Storage>(key[c]));
  }
}

/// The same of the value row (value_dim numbers).
template <typename Storage, Scalar T>
GQA_TAG void put_value(const StripLayout<Storage>& layout, Storage* block, Index t,
                       const T* value) {
  [[maybe_unused]] float scale = 1;
  if constexpr (is_quantized<Storage>) {
    layout.value_scales(block)[t] = scale = scale_of<Storage>(value, layout.value_dim());
  }
  for (Index begin = 0; begin < layout.value_dim(); begin += strip_width) {
    Storage* v = block + layout.value_offset(t, begin);
    const Index width = (std::min)(strip_width, layout.value_dim() - begin);
    if constexpr (is_quantized<Storage>) {
      quantize<Storage>(value + begin, width, scale, [&](Index i, std::int8_t x) {
        set_integer(v[i * lane_objects<Storage>], layout.value_half(t), x);
      });
    } else {
      for (Index i = 0; i < width; ++i) {
        v[i * packing<Storage>] = convert<Storage>(value[begin + i]);
      }
    }
  }
}

/// Both.
template <typename Storage, Scalar T>
GQA_TAG void put_token(const StripLayout<Storage>& layout, Storage* block, Index t, const T* key,
                       const T* value) {
  put_key(layout, block, t, key);
  put_value(layout, block, t, value);
}

/// Asks for a row of n numbers that will be read soon.
template <typename T>
GQA_TAG void prefetch_row(const T* row, Index n) {
  for (Index c = 0; c < n; c += Index{alignment / sizeof(T)}) simd::prefetch(row + c, 0);
}

/// Writes tokens [t, t + count) of a block; strides count elements from a token's row to the
/// next's.
template <typename Storage, Scalar T>
GQA_TAG void put_tokens(const StripLayout<Storage>& layout, Storage* block, Index t, Index count,
                        const T* keys, Index key_stride, const T* values, Index value_stride) {
  // A token's rows of one head are short and far apart where there are many heads, so that the
  // machine doesn't foresee the next ones. 2 rows ahead and 16 gave no more (Zen 4: twice as fast).
  constexpr Index ahead = 4;
  for (Index i = 0; i < count; ++i) {
    if (i + ahead < count) {
      prefetch_row(keys + (i + ahead) * key_stride, layout.head_dim());
      prefetch_row(values + (i + ahead) * value_stride, layout.value_dim());
    }
    put_token(layout, block, t + i, keys + i * key_stride, values + i * value_stride);
  }
}

/// Reads token `t` of a block back; either pointer may be null. The layout is a copy, which no
/// number that is written could change.
template <typename Storage, Scalar T>
GQA_TAG void get_token(StripLayout<Storage> layout, const Storage* block, Index t, T* key,
                       T* value) {
  const auto number = [&](Index offset, [[maybe_unused]] bool is_key,
                          [[maybe_unused]] Index which) {
    if constexpr (is_quantized<Storage>) {
      const float scale = (is_key ? layout.key_scales(block) : layout.value_scales(block))[t];
      return convert<T>(static_cast<double>(scale) * integer_of(block[offset], which));
    } else {
      return convert<T>(block[offset]);
    }
  };
  const Index head_dim = key ? layout.head_dim() : 0, value_dim = value ? layout.value_dim() : 0;
  for (Index c = 0; c < head_dim; ++c) {
    key[c] = number(layout.key_offset(t, c), true, layout.key_half(c));
  }
  for (Index c = 0; c < value_dim; ++c) {
    value[c] = number(layout.value_offset(t, c), false, layout.value_half(t));
  }
}

/// Zeroes tokens [begin, end) of a block.
template <typename Storage>
GQA_TAG void zero_tokens(const StripLayout<Storage>& layout, Storage* block, Index begin,
                         Index end) {
  if (begin == 0 && end == block_keys) {
    std::memset(static_cast<void*>(block), 0, static_cast<std::size_t>(layout.block_bytes()));
    return;
  }
  const auto zero = [&](Index offset, [[maybe_unused]] Index which) {
    if constexpr (is_quantized<Storage>) {
      set_integer(block[offset], which, 0);
    } else {
      block[offset] = Storage{};
    }
  };
  for (Index t = begin; t < end; ++t) {
    for (Index c = 0; c < layout.padded_head_dim(); ++c) {
      zero(layout.key_offset(t, c), layout.key_half(c));
    }
    for (Index c = 0; c < layout.padded_value_dim(); ++c) {
      zero(layout.value_offset(t, c), layout.value_half(t));
    }
    if constexpr (is_quantized<Storage>) {
      layout.key_scales(block)[t] = 0;
      layout.value_scales(block)[t] = 0;
    }
  }
}

inline namespace GQA_ISA {

/// Can keys be transposed as they are, a word of 32 bits being a lane's elements?
template <typename Storage>
inline constexpr bool has_key_words =
    !is_quantized<Storage> && packing<Storage> * sizeof(Storage) == sizeof(float);

/// put_token() for as many tokens as a pack of floats has lanes, `t` a multiple of that: their keys
/// are transposed in registers.
template <typename Storage, typename T>
  requires has_key_words<Storage>
void put_pack_of_tokens(const StripLayout<Storage>& layout, Storage* block, Index t, const T* keys,
                        Index key_stride, const T* values, Index value_stride) {
  static_assert(std::same_as<detail::Native<T>, detail::Native<Storage>>);
  using Pack = simd::Pack<float>;
  constexpr Index p = packing<Storage>, size = Pack::size;
  Storage* k = block + layout.key_offset(t, 0);
  Index c = 0;
  for (; c + size * p <= layout.head_dim(); c += size * p) {
    Pack rows[size];
    GQA_UNROLL
    for (int i = 0; i < static_cast<int>(size); ++i) {
      rows[i] = Pack::load(reinterpret_cast<const float*>(keys + i * key_stride + c));
    }
    transpose(rows);
    GQA_UNROLL
    for (int i = 0; i < static_cast<int>(size); ++i) {
      rows[i].store(reinterpret_cast<float*>(k + (c / p + i) * strip_width * p));
    }
  }
  for (; c < layout.head_dim(); ++c) {
    for (Index i = 0; i < size; ++i) {
      k[(c / p * strip_width + i) * p + c % p] = convert<Storage>(keys[i * key_stride + c]);
    }
  }
  for (Index i = 0; i < size; i += p) {  // p tokens' values lie side by side
    for (Index begin = 0; begin < layout.value_dim(); begin += strip_width) {
      Storage* v = block + layout.value_offset(t + i, begin);
      const T* from = values + i * value_stride + begin;
      const Index width = (std::min)(strip_width, layout.value_dim() - begin);
      for (Index lane = 0; lane < width; ++lane) {
        GQA_UNROLL
        for (Index e = 0; e < p; ++e) {
          v[lane * p + e] = convert<Storage>(from[e * value_stride + lane]);
        }
      }
    }
  }
}

/// Packs a stretch of rows that lies within one block: token i of the run becomes the block's token
/// run.first % 64 + i.
template <typename Storage, typename T>
void pack_run(const StripLayout<Storage>& layout, const RowRun<T>& run, Storage* block) {
  const Index t = run.first % block_keys;
  Index done = 0;
  if constexpr (has_key_words<Storage>) {
    constexpr Index size = simd::Pack<float>::size;
    for (; t % size == 0 && run.count - done >= size; done += size) {
      const T* keys = run.keys + done * run.key_stride;
      const T* values = run.values + done * run.value_stride;
      for (Index next = size; next < 2 * size && done + next < run.count; ++next) {
        prefetch_row(keys + next * run.key_stride, layout.head_dim());
        prefetch_row(values + next * run.value_stride, layout.value_dim());
      }
      put_pack_of_tokens(layout, block, t + done, keys, run.key_stride, values, run.value_stride);
    }
  }
  put_tokens(layout, block, t + done, run.count - done, run.keys + done * run.key_stride,
             run.key_stride, run.values + done * run.value_stride, run.value_stride);
}

/// Packs keys [begin, end) of a source of rows into the block at `block`; begin is a multiple of 64
/// and end - begin <= 64. What the keys don't fill becomes zero.
template <typename Storage>
void pack_block(const detail::AnySource& source, Index batch, Index kv_head, Index begin, Index end,
                const StripLayout<Storage>& layout, Storage* block) {
  const bool filled = end - begin == block_keys && layout.padded_head_dim() == layout.head_dim() &&
                      layout.padded_value_dim() == layout.value_dim();
  if (!filled) zero_tokens(layout, block, 0, block_keys);
  source.for_each_run<RowRun<Storage>>(batch, kv_head, begin, end, [&](const RowRun<Storage>& run) {
    pack_run(layout, run, block);
  });
}

}  // namespace GQA_ISA

/// Copies keys [0, length) of one KV head into rows of T, [length][head_dim] and
/// [length][value_dim], from a source of either layout. `present[i]` says whether the source still
/// has key i.
template <KvSource Source, Scalar T>
GQA_TAG void copy_rows(const Source& source, Index batch, Index kv_head, T* keys, T* values,
                       bool* present) {
  using Storage = detail::Native<typename Source::Storage>;
  const Index length = source.length(batch);
  const Index head_dim = source.head_dim();
  const Index value_dim = source.value_dim();
  const StripLayout<Storage> layout(head_dim, value_dim);
  std::fill(present, present + length, false);
  source.for_each_run(batch, kv_head, 0, length, [&](const auto& run) {
    for (Index i = 0; i < run.count; ++i) {
      const Index key = run.first + i;
      present[key] = true;
      if constexpr (Source::layout == KvLayout::strips) {
        const auto* block =
            reinterpret_cast<const Storage*>(run.blocks) + i / block_keys * layout.block_elements();
        get_token(layout, block, i % block_keys, keys + key * head_dim, values + key * value_dim);
      } else {
        std::transform(run.keys + i * run.key_stride, run.keys + i * run.key_stride + head_dim,
                       keys + key * head_dim, convert<T, typename Source::Storage>);
        std::transform(run.values + i * run.value_stride,
                       run.values + i * run.value_stride + value_dim, values + key * value_dim,
                       convert<T, typename Source::Storage>);
      }
    }
  });
}

}  // namespace gqa
