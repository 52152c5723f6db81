# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# What the tests, benchmarks and examples need beyond Eigen: an installed package where there is one,
# else a release pinned by its hash. Makes GTest::gtest_main, benchmark::benchmark and Threads::Threads,
# and sets GQA_HAVE_JSON and GQA_HAVE_CLI11 for the examples.
include(FetchContent)
find_package(Threads REQUIRED)

# Fetches `name` from `url`. Its own code is not ours to warn about, whatever flags a preset has set.
function(gqa_fetch name url hash)
  message(STATUS "gqa: ${name} is not installed, fetching ${url}")
  FetchContent_Declare(${name} URL "${url}" URL_HASH SHA256=${hash})
  string(APPEND CMAKE_CXX_FLAGS " -w")
  set(CMAKE_COMPILE_WARNING_AS_ERROR OFF)
  FetchContent_MakeAvailable(${name})
endfunction()

if(GQA_BUILD_TESTS)
  find_package(GTest QUIET)
  if(NOT GTest_FOUND)
    set(INSTALL_GTEST OFF CACHE BOOL "" FORCE)
    set(BUILD_GMOCK OFF CACHE BOOL "" FORCE)
    gqa_fetch(googletest
      https://github.com/google/googletest/archive/refs/tags/v1.14.0.tar.gz
      8ad598c73ad796e0d8280b082cebd82a630d73e73cd3c70057938a6501bba5d7)
  endif()
endif()

if(GQA_BUILD_BENCH)
  find_package(benchmark CONFIG QUIET)
  if(NOT benchmark_FOUND)
    set(BENCHMARK_ENABLE_TESTING OFF CACHE BOOL "" FORCE)
    set(BENCHMARK_ENABLE_INSTALL OFF CACHE BOOL "" FORCE)
    set(BENCHMARK_ENABLE_WERROR OFF CACHE BOOL "" FORCE)
    gqa_fetch(benchmark
      https://github.com/google/benchmark/archive/refs/tags/v1.8.3.tar.gz
      6bc180a57d23d4d9515519f92b0c83d61b05b5bab188961f36ac7b06b0d9e9ce)
  endif()
endif()

# The programs that need these are skipped, with a message, where they are absent.
find_package(nlohmann_json CONFIG QUIET)
find_package(CLI11 CONFIG QUIET)
set(GQA_HAVE_JSON ${nlohmann_json_FOUND})
set(GQA_HAVE_CLI11 ${CLI11_FOUND})
