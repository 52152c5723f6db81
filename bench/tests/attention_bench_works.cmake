# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# cmake -DPROGRAM=attention_bench -DJSON=file -P attention_bench_works.cmake: runs a few small cases for
# two rounds each and looks for their counters, and for errors, which is how wrong results are reported.

set(filter "models/llama3_8b/.*(kv_len:512|q_len:128)/|kv_len:1024/threads:1_over_2|over_contiguous/.*bf16.*dim:64/kv_len:1024")
execute_process(
  COMMAND "${PROGRAM}" "--benchmark_filter=${filter}" --rounds=2 --table
          "--benchmark_out=${JSON}" --benchmark_out_format=json
  OUTPUT_VARIABLE output ERROR_VARIABLE error RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "attention_bench ended with ${status}:\n${output}${error}")
endif()
file(READ "${JSON}" json)
string(JSON count LENGTH "${json}" benchmarks)
if(NOT count EQUAL 23)  # 5 types, decode and prefill, 1 and 2 threads; the ratios of threads, caches
  message(FATAL_ERROR "${count} benchmarks match ${filter}, not 23")
endif()
foreach(i RANGE 22)
  string(JSON name GET "${json}" benchmarks ${i} name)
  string(JSON wrong ERROR_VARIABLE none GET "${json}" benchmarks ${i} error_message)
  if(none STREQUAL "NOTFOUND")
    message(FATAL_ERROR "${name}: ${wrong}")
  endif()
  set(counters roofline kv_bytes bytes_per_second flops limit_bandwidth limit_flops)
  if(name MATCHES "^ratio/")
    list(APPEND counters time_ratio roofline_ratio)
  endif()
  foreach(counter IN LISTS counters)
    string(JSON value GET "${json}" benchmarks ${i} ${counter})
    if(NOT value GREATER 0)
      message(FATAL_ERROR "${name}: ${counter} is ${value}")
    endif()
  endforeach()
endforeach()
string(JSON first GET "${json}" benchmarks 3 name)
set(expected "models/llama3_8b/decode/f32/heads:32/kv_heads:8/head_dim:128/kv_len:512/batch:1/threads:1")
string(FIND "${first}" "${expected}/" found)
if(NOT found EQUAL 0)
  message(FATAL_ERROR "the fourth benchmark is called ${first}, not ${expected}")
endif()
if(NOT output MATCHES "speed-up +[0-9.]+ +1.75 +1.90 +(aim|yes|NO) ")
  message(FATAL_ERROR "the table of goals has no speed-up of two threads:\n${output}")
endif()

# --serve answers a case with seconds and anything else with an error.
file(WRITE "${JSON}.requests" "decode/f32/heads:4/kv_heads:2/head_dim:64/kv_len:100/batch:1/threads:1
decode/bf16/heads:4/kv_heads:2/head_dim:64/kv_len:256/batch:2/threads:1/cache:paged
decode/f32/heads:4/kv_heads:2/head_dim:64/kv_len:600/batch:1/threads:1/cache:paged_512
decode/int8/heads:4/kv_heads:2/head_dim:64/kv_len:256/batch:1/threads:1/cache:ring
decode/f32/heads:4/kv_heads:2/head_dim:64/kv_len:600/batch:3/threads:2/cache:shared_prefix
decode/f32/heads:4/kv_heads:2/head_dim:64/kv_len:100/batch:2/threads:1/cache:append
decode/f32/heads:4/kv_heads:2/head_dim:64/kv_len:100/batch:2/threads:1/cache:none
decode/f32/heads:4/kv_heads:3/head_dim:64/kv_len:100/batch:1/threads:1
decode/f32
")
execute_process(COMMAND "${PROGRAM}" --serve INPUT_FILE "${JSON}.requests"
  OUTPUT_VARIABLE output RESULT_VARIABLE status)
if(NOT status EQUAL 0 OR NOT output MATCHES
   "^[0-9.e-]+\n[0-9.e-]+\n[0-9.e-]+\n[0-9.e-]+\n[0-9.e-]+\n[0-9.e-]+\nerror: [^\n]*cache:none: no such cache[^\n]*\nerror: [^\n]*num_kv_heads 3[^\n]*\nerror: no case is called 'decode/f32'\n$")
  message(FATAL_ERROR "--serve ended with ${status} and answered\n${output}")
endif()
