# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors

# Reads GQA_VERSION_MAJOR, _MINOR and _PATCH from `header` into `result` as "major.minor.patch".
function(gqa_read_version header result)
  file(READ "${header}" text)
  set(parts "")
  foreach(part IN ITEMS MAJOR MINOR PATCH)
    if(NOT text MATCHES "#define GQA_VERSION_${part} ([0-9]+)")
      message(FATAL_ERROR "gqa: ${header} does not define GQA_VERSION_${part}")
    endif()
    list(APPEND parts "${CMAKE_MATCH_1}")
  endforeach()
  list(JOIN parts "." version)
  set(${result} "${version}" PARENT_SCOPE)
endfunction()
