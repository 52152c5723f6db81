# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# Where the tests are built, what nearly every program of this project would compile again for itself
# is compiled once: the header gqa.hpp, and the kernels and the common classes.
# In a Release build everything is compiled as users compile it.
if(GQA_BUILD_TESTS AND NOT CMAKE_BUILD_TYPE STREQUAL "Release")
  set(folder "${PROJECT_SOURCE_DIR}/cmake/precompiled")
  add_library(gqa_precompiled STATIC EXCLUDE_FROM_ALL "${folder}/kernels.cpp" "${folder}/common.cpp")
  target_link_libraries(gqa_precompiled PUBLIC gqa::gqa GTest::gtest Threads::Threads)
  target_precompile_headers(gqa_precompiled PRIVATE "${folder}/precompiled.hpp")
  # gcc 12 warns of its own intrinsics where they come from a precompiled header (bug 105593 again);
  # the packaging tests compile without one, and so does a Release build.
  target_compile_options(gqa_precompiled PUBLIC "$<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized>")
  set_source_files_properties("${folder}/kernels.cpp" TARGET_DIRECTORY gqa_precompiled
    PROPERTIES COMPILE_OPTIONS "$<$<CONFIG:Dev>:-O3>;$<$<CONFIG:AsanUbsan>:-O1>"
               SKIP_PRECOMPILE_HEADERS ON)  # it is for another -O
endif()

# gqa_precompile(TARGET): let it take part.
function(gqa_precompile target)
  if(TARGET gqa_precompiled)
    target_link_libraries(${target} PRIVATE gqa_precompiled)
    target_precompile_headers(${target} REUSE_FROM gqa_precompiled)
  endif()
endfunction()
