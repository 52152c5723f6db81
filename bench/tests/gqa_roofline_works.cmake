# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# cmake -DPROGRAM=gqa_roofline -DJSON=file -P gqa_roofline_works.cmake: one round of each probe, whose
# figures must be there and positive.

cmake_policy(SET CMP0057 NEW)  # IN_LIST

execute_process(COMMAND "${PROGRAM}" --rounds 1 --threads 2 --json "${JSON}"
  OUTPUT_VARIABLE output ERROR_VARIABLE error RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "gqa_roofline ended with ${status}:\n${output}${error}")
endif()
file(READ "${JSON}" json)
string(JSON count LENGTH "${json}" limits)
set(found "")
math(EXPR last "${count} - 1")
foreach(i RANGE ${last})
  string(JSON name GET "${json}" limits ${i} name)
  string(JSON threads GET "${json}" limits ${i} threads)
  string(JSON value GET "${json}" limits ${i} per_second)
  if(NOT value GREATER 0)
    message(FATAL_ERROR "${name} with ${threads} threads is ${value}")
  endif()
  list(APPEND found "${name} ${threads}")
endforeach()
foreach(limit IN ITEMS "f32 FMA" "read L2" "read L3" "read DRAM")
  foreach(threads IN ITEMS 1 2)
    if(NOT "${limit} ${threads}" IN_LIST found)
      message(FATAL_ERROR "no figure for ${limit} with ${threads} threads:\n${output}")
    endif()
  endforeach()
endforeach()

execute_process(COMMAND "${PROGRAM}" --rounds 1 --json "${JSON}.no_such_folder/x.json"
  RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE error)
if(status EQUAL 0 OR NOT error MATCHES "no_such_folder/x.json: cannot be written")
  message(FATAL_ERROR "gqa_roofline ended with ${status} for a file that cannot be written: ${error}")
endif()
