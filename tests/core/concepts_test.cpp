// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What the library's own types model. Said here, it costs those who include the headers nothing.
#include <gtest/gtest.h>

#include "gqa/gqa.hpp"
#include "gqa/parallel/openmp.hpp"

namespace gqa {
namespace {

static_assert(Executor<const Serial> && Executor<const EigenPool> && Executor<const OpenMp> &&
              Executor<const detail::AnyExecutor>);

static_assert(Mask<NoMask> && Mask<Causal> && Mask<SlidingWindow> && Mask<KeepFirst> &&
              Mask<PrefixLm> && Mask<Documents> && Mask<DenseMask> && Mask<AdditiveBias<float>>);
static_assert(Mask<decltype(Causal{} & SlidingWindow{} & SoftCap{})>);
static_assert(DifferentiableScoreRule<SoftCap> && DifferentiableScoreRule<Alibi> &&
              DifferentiableScoreRule<RelativeBias> &&
              DifferentiableScoreRule<AdditiveBias<float>>);
static_assert(RulesOrPart<RuleSet> && RulesOrPart<Causal> &&
              RulesOrPart<decltype(Causal{} & SoftCap{})>);

static_assert(KvSource<RowsKv<float>> && !KvStore<RowsKv<float>>);
static_assert(KvStore<KvCache<float>> && KvStore<RingKvCache<float>> &&
              KvStore<PagedKvCache<float>>);
static_assert(!KvStore<const KvCache<float>>);

TEST(Concepts, AreModelledByTheLibrarysOwnTypes) {
  SUCCEED() << "the assertions above are the compiler's";
}

}  // namespace
}  // namespace gqa
