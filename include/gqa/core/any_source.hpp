// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// AnySource: a KvSource of any type, as the kernels see it. They are compiled for a storage type,
// and ask where keys and values lie once per split, through functions of the source's own type.
#pragma once

#include "gqa/core/dtype.hpp"
#include "gqa/core/kv_source.hpp"

namespace gqa::detail {

/// What a KvSource can be asked, of sequence b.
struct SourceFunctions {
  Index (*length)(const void* source, Index b);
  Index (*first_position)(const void* source, Index b);
  Index (*oldest_query)(const void* source, Index b);
  Index (*next_held)(const void* source, Index b, Index key);
  Index (*next_dropped)(const void* source, Index b, Index key);
  /// Calls fn(context, run), `run` being a StripRun or a RowRun<Native<Storage>>.
  void (*for_each_run)(const void* source, Index b, Index kv_head, Index begin, Index end,
                       void* context, void (*fn)(void* context, const void* run));
};

inline namespace GQA_ISA {

/// The same of a source of type S.
template <KvSource S>
struct SourceOf {
  static const S& of(const void* source) { return *static_cast<const S*>(source); }
  static Index length(const void* source, Index b) { return of(source).length(b); }
  static Index first_position(const void* source, Index b) {
    return gqa::first_position(of(source), b);
  }
  static Index oldest_query(const void* source, Index b) {
    return gqa::oldest_query(of(source), b);
  }
  static Index next_held(const void* source, Index b, Index key) {
    return gqa::next_held(of(source), b, key);
  }
  static Index next_dropped(const void* source, Index b, Index key) {
    return gqa::next_dropped(of(source), b, key);
  }
  static void for_each_run(const void* source, Index b, Index kv_head, Index begin, Index end,
                           void* context, void (*fn)(void*, const void*)) {
    of(source).for_each_run(b, kv_head, begin, end,
                            [&]<typename Run>(const Run& run) { handle(run, context, fn); });
  }
  static void handle(const StripRun& run, void* context, void (*fn)(void*, const void*)) {
    fn(context, &run);
  }
  template <typename T>
  static void handle(const RowRun<T>& rows, void* context, void (*fn)(void*, const void*)) {
    const RowRun<Native<T>> run{.keys = reinterpret_cast<const Native<T>*>(rows.keys),
                                .key_stride = rows.key_stride,
                                .values = reinterpret_cast<const Native<T>*>(rows.values),
                                .value_stride = rows.value_stride,
                                .first = rows.first,
                                .count = rows.count};
    fn(context, &run);
  }
  static constexpr SourceFunctions functions = {length,    first_position, oldest_query,
                                                next_held, next_dropped,   for_each_run};
};

}  // namespace GQA_ISA

/// It doesn't own the source, and takes its sizes once.
class AnySource {
 public:
  template <KvSource S>
  GQA_TAG AnySource(const S& source)  // NOLINT(google-explicit-constructor)
      : source_(&source),
        functions_(&SourceOf<S>::functions),
        layout_(S::layout),
        dtype_(dtype_of<typename S::Storage>),
        batch_(source.batch()),
        num_kv_heads_(source.num_kv_heads()),
        head_dim_(source.head_dim()),
        value_dim_(source.value_dim()) {}

  GQA_TAG KvLayout layout() const { return layout_; }
  GQA_TAG Dtype dtype() const { return dtype_; }
  GQA_TAG Index batch() const { return batch_; }
  GQA_TAG Index num_kv_heads() const { return num_kv_heads_; }
  GQA_TAG Index head_dim() const { return head_dim_; }
  GQA_TAG Index value_dim() const { return value_dim_; }

  // As KvSource says, with what gqa::first_position() and its like give where S has no such
  // function.
  GQA_TAG Index length(Index b) const { return functions_->length(source_, b); }
  GQA_TAG Index first_position(Index b) const { return functions_->first_position(source_, b); }
  GQA_TAG Index oldest_query(Index b) const { return functions_->oldest_query(source_, b); }
  GQA_TAG Index next_held(Index b, Index key) const {
    return functions_->next_held(source_, b, key);
  }
  GQA_TAG Index next_dropped(Index b, Index key) const {
    return functions_->next_dropped(source_, b, key);
  }
  /// Run: StripRun, or RowRun<Native<Storage>>.
  template <typename Run, typename F>
  GQA_TAG void for_each_run(Index b, Index kv_head, Index begin, Index end, F fn) const {
    functions_->for_each_run(source_, b, kv_head, begin, end, &fn, [](void* f, const void* run) {
      (*static_cast<F*>(f))(*static_cast<const Run*>(run));
    });
  }

 private:
  const void* source_;
  const SourceFunctions* functions_;
  KvLayout layout_;
  Dtype dtype_;
  Index batch_, num_kv_heads_, head_dim_, value_dim_;
};

}  // namespace gqa::detail
