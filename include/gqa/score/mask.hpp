// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// Which keys a query sees. A mask answers two questions: visible(), for one query and one key,
// which defines it; and tile(), for a rectangle of them, which lets kernels skip hidden blocks and
// spare fully visible ones the element-wise test.
//
// Indices count tokens of a call or cache from 0; positions are where tokens stand in their
// sequence. Causal masks and windows compare positions, dense masks are looked up by index.
#pragma once

#include <algorithm>
#include <concepts>
#include <limits>
#include <span>
#include <type_traits>

#include "gqa/core/attention_shape.hpp"
#include "gqa/core/math.hpp"
#include "gqa/core/view.hpp"

namespace gqa {

/// Positions lie in [-farthest_position, farthest_position], so that two of them always have a
/// difference; attend() sees to it.
inline constexpr Index farthest_position = (std::numeric_limits<Index>::max)() / 2;

/// One query and one key.
struct Where {
  Index batch = 0;
  Index head = 0;  ///< query head
  Index q_index = 0;
  Index k_index = 0;
  Index q_pos = 0;
  Index k_pos = 0;
};

/// Queries [q_begin, q_end) against keys [k_begin, k_end) of one sequence and query head.
/// The queries' positions lie in [q_pos_min, q_pos_max]; the keys' are consecutive from k_pos.
struct Tile {
  Index batch = 0;
  Index head = 0;
  Index q_begin = 0;
  Index q_end = 0;
  Index q_pos_min = 0;
  Index q_pos_max = 0;
  Index k_begin = 0;
  Index k_end = 0;
  Index k_pos = 0;

  GQA_TAG Index k_pos_min() const { return k_pos; }
  GQA_TAG Index k_pos_max() const { return k_pos + (k_end - k_begin) - 1; }
};

/// What a mask says of a tile. `skip`: no pair is visible. `full`: every pair is. `partial` is
/// always a correct answer, only a slower one.
enum class Coverage { skip, partial, full };

GQA_TAG constexpr Coverage coverage(bool none_visible, bool all_visible) {
  return none_visible ? Coverage::skip : all_visible ? Coverage::full : Coverage::partial;
}
GQA_TAG constexpr Coverage both(Coverage a, Coverage b) { return a < b ? a : b; }
GQA_TAG constexpr Coverage either(Coverage a, Coverage b) { return a < b ? b : a; }

/// Keys [begin, end), counted from some key on; begin may be negative.
struct KeyRange {
  static constexpr Index first = (std::numeric_limits<Index>::min)() / 2;  ///< no limit
  static constexpr Index last = (std::numeric_limits<Index>::max)() / 2;

  Index begin = first;
  Index end = last;

  GQA_TAG friend KeyRange both(const KeyRange& a, const KeyRange& b) {
    return {(std::max)(a.begin, b.begin), (std::min)(a.end, b.end)};
  }
};

/// Anything with visible(Where) and tile(Tile), both const and safe to call from several threads.
/// What they throw reaches the caller of attend(), whose out is then partly written.
/// A mask that may look at `head` says so with `static constexpr bool per_head = true`; where it
/// depends on its values, `bool differs_by_head() const` says whether it does, and a mask that
/// doesn't is asked for one head of a group. One of which each query sees a stretch of keys may
/// give it with range(Where), counted from the key of `where`, which spares asking for each of
/// them.
template <typename M>
concept Mask = requires(const M& mask, const Where& where, const Tile& tile) {
  { mask.visible(where) } -> std::convertible_to<bool>;
  { mask.tile(tile) } -> std::same_as<Coverage>;
};

/// Every query sees every key: encoders, cross-attention.
struct NoMask {
  GQA_TAG bool visible(const Where&) const { return true; }
  GQA_TAG KeyRange range(const Where&) const { return {}; }
  GQA_TAG Coverage tile(const Tile&) const { return Coverage::full; }
};

/// A query sees the keys at its own position and before: k_pos <= q_pos.
struct Causal {
  /// Compare indices instead: query i sees keys 0 … i, wherever it stands. PyTorch's `is_causal`
  /// and ONNX's without a past do this; with q_len == kv_len there is no difference.
  bool by_index = false;

  GQA_TAG static constexpr Causal top_left() { return {.by_index = true}; }

  GQA_TAG bool visible(const Where& w) const {
    return by_index ? w.k_index <= w.q_index : w.k_pos <= w.q_pos;
  }
  GQA_TAG KeyRange range(const Where& w) const {
    return {.end = detail::saturated_sum(by_index ? w.q_index - w.k_index : w.q_pos - w.k_pos, 1)};
  }
  GQA_TAG Coverage tile(const Tile& t) const {
    return by_index ? coverage(t.k_begin > t.q_end - 1, t.k_end - 1 <= t.q_begin)
                    : coverage(t.k_pos_min() > t.q_pos_max, t.k_pos_max() <= t.q_pos_min);
  }
};

/// A query sees `left` keys before its own position, itself, and `right` keys after it:
/// q_pos - left <= k_pos <= q_pos + right. `unlimited` lifts a side.
struct SlidingWindow {
  static constexpr Index unlimited = -1;
  static constexpr bool is_window = true;  ///< KeepFirst makes an exception to it

  Index left = unlimited;
  Index right = unlimited;

  /// Hugging Face's `sliding_window = W`: the last W keys, oneself included.
  GQA_TAG static SlidingWindow from_hf(Index window) {
    require(window > 0, "SlidingWindow::from_hf: the window must be positive, is ", window);
    return {.left = window - 1, .right = 0};
  }
  /// FlashAttention's `window_size = (left, right)`, where -1 is unlimited; ONNX's too.
  GQA_TAG static SlidingWindow from_flash(Index left, Index right) {
    require(left >= -1 && right >= -1,
            "SlidingWindow::from_flash: window sizes are -1 or more, got ", left, " and ", right);
    return {.left = left, .right = right};
  }

  GQA_TAG bool visible(const Where& w) const {
    const Index distance = w.q_pos - w.k_pos;  // compared as it is: a side may be the largest Index
    return (left < 0 || distance <= left) && (right < 0 || -distance <= right);
  }
  GQA_TAG KeyRange range(const Where& w) const {
    const Index own = w.q_pos - w.k_pos;
    return {.begin = left < 0 ? KeyRange::first : detail::saturated_difference(own, left),
            .end = right < 0 ? KeyRange::last
                             : detail::saturated_sum(detail::saturated_sum(own, right), 1)};
  }
  GQA_TAG Coverage tile(const Tile& t) const {
    const bool before =
        left >= 0 && t.k_pos_max() < detail::saturated_difference(t.q_pos_min, left);
    const bool after = right >= 0 && t.k_pos_min() > detail::saturated_sum(t.q_pos_max, right);
    const bool all_left =
        left < 0 || t.k_pos_min() >= detail::saturated_difference(t.q_pos_max, left);
    const bool all_right = right < 0 || t.k_pos_max() <= detail::saturated_sum(t.q_pos_min, right);
    return coverage(before || after, all_left && all_right);
  }
};

/// Beside a SlidingWindow, the first `count` positions stay visible: attention sinks as tokens
/// (Xiao et al. 2023, arXiv 2309.17453). Without a window it changes nothing. It doesn't lift other
/// masks.
struct KeepFirst {
  static constexpr bool is_exception = true;

  Index count = 0;

  GQA_TAG bool visible(const Where& w) const { return w.k_pos < count; }
  GQA_TAG Coverage tile(const Tile& t) const {
    return coverage(t.k_pos_min() >= count, t.k_pos_max() < count);
  }
};

/// Causal, but the first `length` positions see one another both ways and are seen by all.
struct PrefixLm {
  Index length = 0;
  Borrowed<const Index> lengths = {};  ///< one per sequence of the batch, instead of `length`

  GQA_TAG Index prefix_of(Index batch) const {
    return lengths.empty() ? length : lengths[static_cast<std::size_t>(batch)];
  }
  GQA_TAG void check(const AttentionShape& s) const {
    require(lengths.empty() || std::ssize(lengths) == s.batch, "PrefixLm has ", std::ssize(lengths),
            " lengths for a batch of ", s.batch);
  }
  GQA_TAG bool visible(const Where& w) const {
    return w.k_pos < prefix_of(w.batch) || w.k_pos <= w.q_pos;
  }
  GQA_TAG KeyRange range(const Where& w) const {
    return {.end = detail::saturated_difference(
                (std::max)(prefix_of(w.batch), detail::saturated_sum(w.q_pos, 1)), w.k_pos)};
  }
  GQA_TAG Coverage tile(const Tile& t) const {
    const Index prefix = prefix_of(t.batch);
    return coverage(t.k_pos_min() >= prefix && t.k_pos_min() > t.q_pos_max,
                    t.k_pos_max() < prefix || t.k_pos_max() <= t.q_pos_min);
  }
};

/// Several documents packed into one sequence: a query sees the keys of its own document. Ids are
/// [batch, q_len] and [batch, kv_len], looked up by index; any numbers, in any order.
struct Documents {
  Borrowed<const int> q_ids;
  Borrowed<const int> k_ids;
  Index q_len = 0;   ///< row length of q_ids
  Index kv_len = 0;  ///< row length of k_ids

  GQA_TAG void check(const AttentionShape& s) const {
    require(q_len >= s.q_len && detail::is_product(std::ssize(q_ids), s.batch, q_len),
            "Documents has ", std::ssize(q_ids), " query ids in rows of ", q_len,
            " for [batch, q_len] = [", s.batch, ", ", s.q_len, "]");
    require(kv_len >= s.kv_len && detail::is_product(std::ssize(k_ids), s.batch, kv_len),
            "Documents has ", std::ssize(k_ids), " key ids in rows of ", kv_len,
            " for [batch, kv_len] = [", s.batch, ", ", s.kv_len, "]");
  }
  GQA_TAG bool visible(const Where& w) const {
    return q_ids[static_cast<std::size_t>(w.batch * q_len + w.q_index)] ==
           k_ids[static_cast<std::size_t>(w.batch * kv_len + w.k_index)];
  }
  GQA_TAG Coverage tile(const Tile& t) const {
    const auto range = [](std::span<const int> ids, Index begin, Index end) {
      const auto part =
          ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
      const auto [low, high] = std::minmax_element(part.begin(), part.end());
      return std::pair(*low, *high);
    };
    const auto q = range(q_ids, t.batch * q_len + t.q_begin, t.batch * q_len + t.q_end);
    const auto k = range(k_ids, t.batch * kv_len + t.k_begin, t.batch * kv_len + t.k_end);
    return coverage(q.second < k.first || k.second < q.first,
                    q.first == q.second && k.first == k.second && q.first == k.first);
  }
};

struct DenseShape {
  Index batch = 1;
  Index num_heads = 1;
  Index q_len = 0;
  Index kv_len = 0;
};

/// Numbers per query and key, [batch, num_heads, q_len, kv_len], where batch, num_heads and q_len
/// may be 1, which stands for all.
template <typename T>
class DenseView {
 public:
  using Value = T;
  using Shape = DenseShape;

  GQA_TAG constexpr DenseView() = default;
  /// Dense, row-major.
  GQA_TAG DenseView(const T* data, const Shape& shape) : data_(data), shape_(shape) {}
  /// Eigen tensors of rank 4, or of rank 2: [q_len, kv_len].
  template <typename Tensor>
    requires detail::EigenTensor<const std::remove_cvref_t<Tensor>>
  GQA_TAG DenseView(Tensor&& tensor)  // NOLINT(google-explicit-constructor)
      : data_(tensor.data()) {
    using Plain = std::remove_cvref_t<Tensor>;
    static_assert(int(Plain::Layout) == detail::row_major, "gqa views need a RowMajor tensor");
    static_assert(
        Plain::NumDimensions == 2 || Plain::NumDimensions == 4,
        "dense masks and biases are [batch, num_heads, q_len, kv_len] or [q_len, kv_len]");
    detail::refuse_temporary<Tensor>();
    constexpr int n = Plain::NumDimensions;
    if constexpr (n == 4) {
      shape_.batch = tensor.dimension(0);
      shape_.num_heads = tensor.dimension(1);
    }
    shape_.q_len = tensor.dimension(n - 2);
    shape_.kv_len = tensor.dimension(n - 1);
  }

  GQA_TAG const Shape& shape() const { return shape_; }
  /// The row of one query, kv_len numbers.
  GQA_TAG const T* row(Index batch, Index head, Index q_index) const {
    const Index b = shape_.batch == 1 ? 0 : batch;
    const Index h = shape_.num_heads == 1 ? 0 : head;
    const Index q = shape_.q_len == 1 ? 0 : q_index;
    return data_ + ((b * shape_.num_heads + h) * shape_.q_len + q) * shape_.kv_len;
  }
  GQA_TAG void check(const AttentionShape& s, const char* name) const {
    const auto fits = [&](Index have, Index want, const char* dimension) {
      require(have == want || have == 1, name, " has ", dimension, " ", have, ", expected ", want,
              " or 1");
    };
    fits(shape_.batch, s.batch, "batch");
    fits(shape_.num_heads, s.num_heads, "num_heads");
    fits(shape_.q_len, s.q_len, "q_len");
  }
  GQA_TAG bool differs_by_head() const { return shape_.num_heads > 1; }
  /// Calls fn for each number of a tile that is inside of the view, until fn returns false; of a
  /// row for all queries once.
  template <typename F>
  GQA_TAG void for_each_in(const Tile& t, F fn) const {
    const Index q_end = shape_.q_len == 1 ? (std::min)(t.q_begin + 1, t.q_end) : t.q_end;
    for (Index q = t.q_begin; q < q_end; ++q) {
      const T* numbers = row(t.batch, t.head, q);
      for (Index k = t.k_begin; k < (std::min)(t.k_end, shape_.kv_len); ++k) {
        if (!fn(numbers[k])) return;
      }
    }
  }

 private:
  const T* data_ = nullptr;
  Shape shape_;
};

namespace detail {

/// Coverage of a tile of a DenseView, given which numbers are visible; keys after its end are
/// hidden.
template <typename T, typename Visible>
GQA_TAG Coverage dense_coverage(const DenseView<T>& numbers, const Tile& t, Visible visible) {
  bool any = false;
  bool all = t.k_end <= numbers.shape().kv_len;
  numbers.for_each_in(t, [&](T x) {
    (visible(x) ? any : all) = visible(x);
    return !any || all;
  });
  return coverage(!any, all);
}

}  // namespace detail

/// true is visible. A mask shorter than the keys hides those after it (as ONNX pads it).
struct DenseMask {
  static constexpr bool per_head = true;

  DenseView<bool> values;

  GQA_TAG void check(const AttentionShape& s) const { values.check(s, "DenseMask"); }
  GQA_TAG bool differs_by_head() const { return values.differs_by_head(); }
  GQA_TAG bool visible(const Where& w) const {
    return w.k_index < values.shape().kv_len && values.row(w.batch, w.head, w.q_index)[w.k_index];
  }
  GQA_TAG Coverage tile(const Tile& t) const {
    return detail::dense_coverage(values, t, [](bool x) { return x; });
  }
};

/// A mask of your own: visible(where) is the function's answer. For skipped blocks write a Mask.
template <typename F>
struct MaskFunction {
  static constexpr bool per_head = true;

  F function;

  GQA_TAG bool visible(const Where& w) const { return function(w); }
  GQA_TAG Coverage tile(const Tile&) const { return Coverage::partial; }
};
template <typename F>
GQA_TAG MaskFunction<F> mask_function(F function) {
  return {std::move(function)};
}

}  // namespace gqa
