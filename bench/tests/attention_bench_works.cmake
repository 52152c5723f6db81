# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# cmake -DPROGRAM=attention_bench -DJSON=file -P attention_bench_works.cmake: runs a few small cases and
# looks for their counters, and for errors, which is how wrong results are reported.

set(filter "heads:32/kv_heads:8/.*(kv_len:512|q_len:128)/batch:1/threads:[12]$")
execute_process(
  COMMAND "${PROGRAM}" "--benchmark_filter=${filter}" --benchmark_min_time=0.001
          "--benchmark_out=${JSON}" --benchmark_out_format=json
  OUTPUT_VARIABLE output ERROR_VARIABLE error RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "attention_bench ended with ${status}:\n${output}${error}")
endif()
file(READ "${JSON}" json)
string(JSON count LENGTH "${json}" benchmarks)
if(NOT count EQUAL 12)  # 3 types, decode and prefill, 1 and 2 threads
  message(FATAL_ERROR "${count} benchmarks match ${filter}, not 12")
endif()
foreach(i RANGE 11)
  string(JSON name GET "${json}" benchmarks ${i} name)
  string(JSON wrong ERROR_VARIABLE none GET "${json}" benchmarks ${i} error_message)
  if(none STREQUAL "NOTFOUND")
    message(FATAL_ERROR "${name}: ${wrong}")
  endif()
  foreach(counter IN ITEMS kv_bytes bytes_per_second flops)
    string(JSON value GET "${json}" benchmarks ${i} ${counter})
    if(NOT value GREATER 0)
      message(FATAL_ERROR "${name}: ${counter} is ${value}")
    endif()
  endforeach()
endforeach()
string(JSON first GET "${json}" benchmarks 0 name)
set(expected "decode/f32/heads:32/kv_heads:8/head_dim:128/kv_len:512/batch:1/threads:1")
if(NOT first STREQUAL expected)
  message(FATAL_ERROR "the first benchmark is called ${first}, not ${expected}")
endif()
