// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// The contract of simd/ops.hpp, on the instruction set that this file is compiled for
// (CMakeLists.txt compiles it for several).
#include "gqa/simd/ops.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "gqa/simd/arch.hpp"
#include "special_numbers.hpp"
#include "support/isa.hpp"
#include "support/random.hpp"

namespace gqa::test {
namespace {

TEST(SimdOps, AreThoseOfTheInstructionSetThatThisIsCompiledFor) {
#if defined(GQA_TEST_ISA)
  EXPECT_STREQ(simd::isa_name, GQA_TEST_ISA);
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  EXPECT_STREQ(simd::isa_name, "neon_bf16");
#elif defined(__aarch64__)
  EXPECT_STREQ(simd::isa_name, "neon");
#elif defined(__AVX512BF16__) && defined(__AVX512VNNI__)
  EXPECT_STREQ(simd::isa_name, "avx512_bf16_vnni");
#elif defined(__AVX512BF16__)
  EXPECT_STREQ(simd::isa_name, "avx512_bf16");
#elif defined(__AVX512VNNI__)
  EXPECT_STREQ(simd::isa_name, "avx512_vnni");
#elif defined(__AVX512BW__)
  EXPECT_STREQ(simd::isa_name, "avx512");
#elif defined(__AVX2__)
  EXPECT_STREQ(simd::isa_name, "avx2");
#endif
}

template <typename T>
class SimdOps : public testing::Test {
 protected:
  using Pack = simd::Pack<T>;
  using Lanes = std::vector<T>;
  static constexpr Index size = Pack::size;

  void SetUp() override { GQA_TEST_SKIP_FOREIGN_ISA(); }

  static Pack pack(const Lanes& lanes) { return Pack::load(lanes.data()); }
  static Lanes lanes(Pack p) {
    Lanes all(size);
    p.store(all.data());
    return all;
  }
  static Lanes random(Random& random) {
    Lanes all(size);
    for (T& x : all) x = static_cast<T>(random.normal());
    return all;
  }
};
using Accumulators = testing::Types<float, double>;
TYPED_TEST_SUITE(SimdOps, Accumulators);
class SimdOpsFloat : public SimdOps<float> {};
class SimdOpsDouble : public SimdOps<double> {};

TYPED_TEST(SimdOps, LoadsAndStoresAtAnyAlignment) {
  constexpr Index count = TestFixture::size;
  for (Index offset = 0; offset < 16; ++offset) {
    std::vector<TypeParam> from(static_cast<std::size_t>(count + 32)), to(from.size(), -1);
    for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<TypeParam>(i);
    simd::Pack<TypeParam>::load(from.data() + offset).store(to.data() + offset);
    for (Index i = 0; i < std::ssize(to); ++i) {
      const bool inside = i >= offset && i < offset + count;
      EXPECT_EQ(to[static_cast<std::size_t>(i)], inside ? static_cast<TypeParam>(i) : -1) << offset;
    }
  }
}

TYPED_TEST(SimdOps, BroadcastsAndZeroes) {
  EXPECT_EQ(this->lanes(simd::Pack<TypeParam>::broadcast(TypeParam(2.5))),
            std::vector<TypeParam>(TestFixture::size, TypeParam(2.5)));
  EXPECT_EQ(this->lanes(simd::Pack<TypeParam>::zero()),
            std::vector<TypeParam>(TestFixture::size, TypeParam(0)));
}

TYPED_TEST(SimdOps, ComputesLaneByLane) {
  Random random(1);
  for (int round = 0; round < 100; ++round) {
    const auto a = this->random(random), b = this->random(random), c = this->random(random);
    const auto pa = this->pack(a), pb = this->pack(b), pc = this->pack(c);
    const auto sum = this->lanes(pa + pb), difference = this->lanes(pa - pb),
               product = this->lanes(pa * pb), quotient = this->lanes(pa / pb),
               fused = this->lanes(fma(pa, pb, pc)), most = this->lanes(larger(pa, pb));
    for (std::size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(sum[i], a[i] + b[i]);
      EXPECT_EQ(difference[i], a[i] - b[i]);
      EXPECT_EQ(product[i], a[i] * b[i]);
      EXPECT_EQ(quotient[i], a[i] / b[i]);
      EXPECT_EQ(most[i], a[i] > b[i] ? a[i] : b[i]);
      const TypeParam apart = static_cast<TypeParam>(a[i] * b[i]) + c[i];
#if defined(GQA_ISA_GENERIC)  // rounded once where the machine can, else twice
      EXPECT_TRUE(fused[i] == std::fma(a[i], b[i], c[i]) || fused[i] == apart);
#else
      EXPECT_EQ(fused[i], std::fma(a[i], b[i], c[i])) << apart;
#endif
    }
  }
}

TYPED_TEST(SimdOps, LargerTakesTheSecondForNan) {
  using T = TypeParam;
  const auto x = TestFixture::Pack::broadcast(T(1)),
             not_a_number = TestFixture::Pack::broadcast(nan<T>);
  EXPECT_EQ(this->lanes(larger(not_a_number, x))[0], T(1));
  EXPECT_TRUE(std::isnan(this->lanes(larger(x, not_a_number))[0]));
  const auto low = TestFixture::Pack::broadcast(-infinity<T>);
  EXPECT_EQ(this->lanes(larger(low, x))[0], T(1));
  EXPECT_EQ(this->lanes(larger(low, low))[0], -infinity<T>);
}

TYPED_TEST(SimdOps, NearestIsTheNearestIntegerOfTwoTheEvenOne) {
  using T = TypeParam;
  Random random(9);
  const T limit = std::same_as<T, float> ? T(0x1p22) : T(0x1p51);
  for (int i = 0; i < 20'000; ++i) {
    T x = static_cast<T>((2 * random.uniform() - 1) * double{limit});
    if (i % 3 == 1) x = static_cast<T>(i - 10'000) / 2;                   // many ties
    if (i % 3 == 2) x = std::nextafter(x / limit + T(0.5) * T(i), T(0));  // beside them
    if (!(std::abs(x) < limit)) continue;
    ASSERT_EQ(this->lanes(nearest(TestFixture::Pack::broadcast(x)))[0], std::nearbyint(x)) << x;
  }
}

TYPED_TEST(SimdOps, AnyGreaterLooksAtEveryLaneAndNanExceedsNothing) {
  using T = TypeParam;
  const auto limit = TestFixture::Pack::broadcast(T(2));
  EXPECT_FALSE(any_greater(limit, limit));
  for (std::size_t i = 0; i < static_cast<std::size_t>(TestFixture::size); ++i) {
    std::vector<T> x(TestFixture::size, T(1));
    x[i] = T(3);
    EXPECT_TRUE(any_greater(this->pack(x), limit)) << i;
    x[i] = nan<T>;
    EXPECT_FALSE(any_greater(this->pack(x), limit)) << i;
  }
  EXPECT_FALSE(any_greater(limit, TestFixture::Pack::broadcast(nan<T>)));
  EXPECT_TRUE(any_greater(limit, TestFixture::Pack::broadcast(-infinity<T>)));
}

TYPED_TEST(SimdOps, ReducesOverEveryLane) {
  using T = TypeParam;
  for (std::size_t i = 0; i < static_cast<std::size_t>(TestFixture::size); ++i) {
    std::vector<T> x(TestFixture::size, T(0));
    x[i] = T(5);
    EXPECT_EQ(reduce_add(this->pack(x)), T(5)) << i;
    EXPECT_EQ(reduce_max(this->pack(x)), T(5)) << i;
    std::fill(x.begin(), x.end(), -infinity<T>);
    EXPECT_EQ(reduce_max(this->pack(x)), -infinity<T>);
    x[i] = T(-7);
    EXPECT_EQ(reduce_max(this->pack(x)), T(-7)) << i;
    std::fill(x.begin(), x.end(), T(1));
    x[i] = nan<T>;
    EXPECT_TRUE(std::isnan(reduce_add(this->pack(x)))) << i;
  }
  std::vector<T> counting(TestFixture::size);
  for (std::size_t i = 0; i < counting.size(); ++i) counting[i] = T(1u << i);
  EXPECT_EQ(reduce_add(this->pack(counting)), T((1u << TestFixture::size) - 1));
}

/// exp2 of any number of x, against the exact value; prints the largest error when it goes.
template <typename T>
class Exp2Check {
 public:
  void add(T x) {
    x_[count_++] = x;
    if (count_ == std::size(x_)) compare();
  }
  ~Exp2Check() {
    while (count_ != 0) add(T(0));
    std::printf("exp2: at most %.3f ULP, at %.17g\n", worst_, static_cast<double>(worst_at_));
    EXPECT_LE(worst_, 2) << "at " << worst_at_;
  }

 private:
  using Exact = std::conditional_t<std::same_as<T, float>, double, long double>;

  void compare() {
    T y[std::size(decltype(x_){})];
    exp2(simd::Pack<T>::load(x_)).store(y);
    for (std::size_t i = 0; i < count_; ++i) {
      if (std::isnan(x_[i])) {
        EXPECT_TRUE(std::isnan(y[i])) << y[i];
      } else if (x_[i] < simd::exp2_min<T>) {
        EXPECT_EQ(y[i], T(0)) << x_[i];
      } else if (x_[i] >= simd::exp2_max<T>) {
        EXPECT_EQ(y[i], infinity<T>) << x_[i];
      } else if (const double error = ulps(y[i], std::exp2(static_cast<Exact>(x_[i])));
                 !(error <= worst_)) {
        worst_ = error;
        worst_at_ = x_[i];
      }
    }
    count_ = 0;
  }
  /// Distance in units in the last place of T, of which there are 2^(digits - 1) in [1, 2).
  static double ulps(T actual, Exact exact) {
    const Exact ulp = std::ldexp(Exact(1), std::ilogb(exact) + 1 - std::numeric_limits<T>::digits);
    return static_cast<double>(std::abs(static_cast<Exact>(actual) - exact) / ulp);
  }

  T x_[static_cast<std::size_t>(simd::Pack<T>::size)];
  std::size_t count_ = 0;
  double worst_ = 0;
  T worst_at_ = 0;
};

/// An emulated machine takes one of so many numbers.
constexpr std::uint32_t thinned = emulated ? 17 : 1;

TEST_F(SimdOpsFloat, Exp2IsWithin2UlpForEveryFraction) {
  // exp2 computes 2^f for f = x - n, n the nearest whole number, and multiplies with 2^n, which is
  // exact. In [0.5, 1] and [-1, -0.5], f takes every value that it has for any larger x: all
  // multiples of 2^-24. Below 0.5, x is f itself, there and ever closer to 0 in steps of 97.
  Exp2Check<float> check;
  const auto bits_of = [](float x) { return std::bit_cast<std::uint32_t>(x); };
  for (std::uint32_t bits = bits_of(0x1p-26f); bits <= bits_of(1.0f);
       bits += (bits < bits_of(0.5f) ? 97 : 1) * thinned) {
    check.add(std::bit_cast<float>(bits));
    check.add(-std::bit_cast<float>(bits));
  }
}

TEST_F(SimdOpsFloat, Exp2IsWithin2UlpOrAtItsLimitsForFloatsOfAllKinds) {
  // Every 1021st pattern of 32 bits: each exponent and sign, denormals, infinities and NaN.
  Exp2Check<float> check;
  for (std::uint64_t bits = 0; bits <= 0xffffffffu; bits += 1021 * thinned) {
    check.add(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  }
}

TEST_F(SimdOpsFloat, Exp2IsWithin2UlpNextToWholeAndHalfNumbers) {
  Exp2Check<float> check;
  for (int half = -260; half < 260; ++half) {
    float low = static_cast<float>(half) / 2, high = low;
    for (int step = 0; step < 300; ++step) {
      check.add(low);
      check.add(high);
      low = std::nextafter(low, -infinity<float>);
      high = std::nextafter(high, infinity<float>);
    }
  }
}

TEST_F(SimdOpsDouble, Exp2IsWithin2UlpOrAtItsLimitsForDoublesOfAllKinds) {
  Random random(2);
  Exp2Check<double> check;
  // More digits than the 64 of x87 are computed without hardware, and take their time.
  const int count = std::numeric_limits<long double>::digits > 64 ? 2'000 : 1'000'000;
  for (int i = 0; i < count; ++i) {
    check.add(-1022 + 2046 * random.uniform());                          // any normal result
    check.add(random.normal() * std::exp2(random.uniform() * 40 - 35));  // any size
    check.add(std::bit_cast<double>(random.bits()));                     // anything
  }
  const int steps = count > 2'000 ? 20 : 1;
  for (int half = -2050; half < 2050; ++half) {
    double low = half / 2.0, high = low;
    for (int step = 0; step < steps; ++step) {
      low = std::nextafter(low, -infinity<double>);
      high = std::nextafter(high, infinity<double>);
      check.add(low);
      check.add(high);
    }
  }
}

#if !defined(GQA_ISA_GENERIC)
TYPED_TEST(SimdOps, Exp2HasTheSameBitsOnEveryInstructionSetThatFuses) {
  // Those of its formula, computed one number at a time.
  using T = TypeParam;
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  const auto formula = [](T x) {
    const T n = std::nearbyint(x), f = x - n;
    constexpr auto& c = simd::exp2_coefficients<T>;
    T p = c.back();
    for (std::size_t i = c.size() - 1; i-- > 0;) p = std::fma(p, f, c[i]);
    return std::ldexp(std::fma(p, f, T(1)), static_cast<int>(n));
  };
  Random random(5);
  for (int i = 0; i < 20'000; ++i) {
    const T low = simd::exp2_min<T>, high = simd::exp2_max<T>;
    const T x = static_cast<T>(i % 2 ? random.normal() : low + (high - low) * random.uniform());
    if (x < low || x >= high) continue;  // rounded up to the end
    ASSERT_EQ(std::bit_cast<Bits>(simd::exp2(x)), std::bit_cast<Bits>(formula(x))) << x;
  }
}
#endif

TYPED_TEST(SimdOps, Exp2OfWholeNumbersIsExact) {
  using T = TypeParam;
  const int lowest = std::same_as<T, float> ? -126 : -1022,
            highest = std::same_as<T, float> ? 127 : 1023;
  for (int n = lowest; n <= highest; ++n) EXPECT_EQ(simd::exp2(T(n)), std::ldexp(T(1), n)) << n;
}

TYPED_TEST(SimdOps, Exp2HasTheRightLimits) {
  using T = TypeParam;
  const T low = std::same_as<T, float> ? T(-126) : T(-1022),
          high = std::same_as<T, float> ? T(128) : T(1024);
  EXPECT_EQ(simd::exp2(-infinity<T>), T(0));
  EXPECT_FALSE(std::signbit(simd::exp2(-infinity<T>)));
  EXPECT_EQ(simd::exp2(infinity<T>), infinity<T>);
  EXPECT_TRUE(std::isnan(simd::exp2(nan<T>)));
  EXPECT_TRUE(std::isnan(simd::exp2(-nan<T>)));
  EXPECT_EQ(simd::exp2(low), std::numeric_limits<T>::min());
  EXPECT_EQ(simd::exp2(std::nextafter(low, -infinity<T>)), T(0));
  EXPECT_TRUE(std::isfinite(simd::exp2(std::nextafter(high, T(0)))));
  for (const T x :
       {low - 1, 2 * low, T(-1e4), T(-1e10), T(-1e30), std::numeric_limits<T>::lowest()}) {
    EXPECT_EQ(simd::exp2(x), T(0)) << x;
  }
  for (const T x : {high, 2 * high, T(1e4), T(1e10), T(1e30), std::numeric_limits<T>::max()}) {
    EXPECT_EQ(simd::exp2(x), infinity<T>) << x;
  }
}

TYPED_TEST(SimdOps, Exp2OfEachLaneIsItsOwn) {
  using T = TypeParam;
  Random random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<T> x(TestFixture::size);
    for (T& lane : x) {
      lane = static_cast<T>(random.normal() * 40);
      if (random.chance(0.1))
        lane = random.pick(std::vector<T>{nan<T>, infinity<T>, -infinity<T>, T(-1e5), T(1e5)});
    }
    const auto y = this->lanes(exp2(this->pack(x)));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const T alone = simd::exp2(x[i]);
      EXPECT_TRUE(std::memcmp(&alone, &y[i], sizeof alone) == 0 ||
                  (std::isnan(alone) && std::isnan(y[i])))
          << x[i];
    }
  }
}

TYPED_TEST(SimdOps, WidensItsOwnTypeUnchanged) {
  Random random(4);
  const auto x = this->random(random);
  simd::Pack<TypeParam> packs[1];
  simd::widen(x.data(), packs);
  EXPECT_EQ(this->lanes(packs[0]), x);
}

template <typename T>
void check_tanh(double within) {
  GQA_TEST_SKIP_FOREIGN_ISA();
  constexpr Index size = simd::Pack<T>::size;
  Random random(9);
  double worst = 0;
  T x[size], y[size];
  const auto check = [&] {
    tanh(simd::Pack<T>::load(x)).store(y);
    for (Index i = 0; i < size; ++i) {
      const long double exact = std::tanh(static_cast<long double>(x[i]));
      const long double unit =
          std::nextafter(std::abs(static_cast<T>(exact)), T(2)) - std::abs(static_cast<T>(exact));
      worst = std::max(worst, static_cast<double>(std::abs((y[i] - exact) / unit)));
      ASSERT_EQ(std::signbit(y[i]), std::signbit(x[i])) << x[i];
    }
  };
  for (int round = 0; round < 50000; ++round) {
    for (T& lane : x) {
      const double magnitude = std::exp2(random.uniform() * 24 - 19);  // to 32
      lane = static_cast<T>(random.chance(0.5) ? magnitude : -magnitude);
    }
    check();
  }
  EXPECT_LE(worst, within);
  const T infinity = std::numeric_limits<T>::infinity();
  for (const auto& [from, to] : std::vector<std::pair<T, T>>{{T(0), T(0)},
                                                             {infinity, T(1)},
                                                             {-infinity, T(-1)},
                                                             {T(1e30), T(1)},
                                                             {T(-1e30), T(-1)}}) {
    tanh(simd::Pack<T>::broadcast(from)).store(y);
    EXPECT_EQ(y[size - 1], to) << from;
  }
  tanh(simd::Pack<T>::broadcast(std::numeric_limits<T>::quiet_NaN())).store(y);
  EXPECT_TRUE(std::isnan(y[0]));
  std::printf("%s: tanh within %.3f ULP\n", simd::isa_name, worst);
}
TEST(SimdTanh, IsWithinThreeUlp_F32) { check_tanh<float>(3); }
TEST(SimdTanh, IsWithinThreeUlp_F64) { check_tanh<double>(3); }

TEST(SimdIota, Counts) {
  GQA_TEST_SKIP_FOREIGN_ISA();
  float x[simd::Pack<float>::size];
  simd::iota<float>().store(x);
  for (Index i = 0; i < simd::Pack<float>::size; ++i) EXPECT_EQ(x[i], static_cast<float>(i));
}

}  // namespace
}  // namespace gqa::test
