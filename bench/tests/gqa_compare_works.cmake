# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# cmake -DPROGRAM=gqa_compare -DJSON=file -P gqa_compare_works.cmake: runs it with --quick, which fails
# where a result is wrong, reads its JSON, and gives it arguments that it must refuse.

foreach(dtype IN ITEMS f32 bf16 f16)
  file(REMOVE "${JSON}")
  execute_process(COMMAND "${PROGRAM}" --quick --dtype ${dtype} --json "${JSON}"
    OUTPUT_VARIABLE table RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "gqa_compare --quick --dtype ${dtype} ended with ${status}:\n${table}")
  endif()
  file(READ "${JSON}" json)
  string(JSON count LENGTH "${json}" measurements)
  if(NOT count EQUAL 6)  # decode and prefill with 32, 8 and 1 KV heads
    message(FATAL_ERROR "gqa_compare wrote ${count} measurements, not 6:\n${json}")
  endif()
  foreach(i RANGE 5)
    foreach(who IN ITEMS gqa eigen)
      string(JSON seconds GET "${json}" measurements ${i} ${who} seconds_per_token)
      string(JSON share GET "${json}" measurements ${i} ${who} share_of_tolerance)
      if(NOT seconds GREATER 0 OR NOT share GREATER 0 OR share GREATER 1)
        message(FATAL_ERROR "measurement ${i} of ${who}: ${seconds} s, ${share} of the tolerance")
      endif()
    endforeach()
  endforeach()
  # The cache of 8 KV heads is a quarter of that of 32.
  string(JSON mha GET "${json}" measurements 0 kv_bytes)
  string(JSON gqa GET "${json}" measurements 1 kv_bytes)
  math(EXPR four_gqa "4 * ${gqa}")
  if(NOT mha EQUAL four_gqa)
    message(FATAL_ERROR "KV bytes: ${mha} with 32 heads, ${gqa} with 8")
  endif()
endforeach()

function(expect_refusal text)
  execute_process(COMMAND "${PROGRAM}" ${ARGN} RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE error)
  string(FIND "${error}" "${text}" found)
  if(status EQUAL 0 OR found EQUAL -1)
    message(FATAL_ERROR "gqa_compare ${ARGN} ended with ${status}, without '${text}': ${error}")
  endif()
endfunction()
expect_refusal("num_kv_heads 5 does not divide num_heads 32" --quick --kv-heads 5)
expect_refusal("no_such_folder/x.json" --quick --json "${JSON}.no_such_folder/x.json")
expect_refusal("--dtype" --quick --dtype f8)
expect_refusal("--repetitions" --quick --repetitions 9223372036854775808)

# A table that nobody gets is a failure.
if(EXISTS /dev/full)
  execute_process(COMMAND "${PROGRAM}" --quick --no-baseline --json "${JSON}" OUTPUT_FILE /dev/full
    RESULT_VARIABLE status ERROR_VARIABLE error)
  if(NOT status EQUAL 1 OR NOT error MATCHES "cannot write to stdout")
    message(FATAL_ERROR "gqa_compare > /dev/full ended with ${status}: ${error}")
  endif()
endif()
