#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# compile_time.sh FOLDER REPORT COMPILER FLAGS...
# How long the programs in FOLDER take to compile, over one that only includes Eigen (user time, the
# best of up to three), how much memory and code that is; fails where a ratio exceeds the one below by
# more than a fifth. Lower a ratio when it has become better.
set -euo pipefail
folder=$1 report=$2
shift 2
declare -A ratios=([one_attend]=3.1 [twelve_calls]=6.8 [layer]=4.0)

object=$(mktemp --suffix=.o)
trap 'rm -f "$object"' EXIT
TIMEFORMAT=%U
seconds_of() { { time "$@" -c "$folder/$name.cpp" -o "$object" 1>&2; } 2>&1 | tail -n 1; }
least() { printf '%s\n' "$@" | sort -g | head -n 1; }

name=eigen
unit=$(least "$(seconds_of "$@")" "$(seconds_of "$@")" "$(seconds_of "$@")")
: > "$report"
result=0
for name in one_attend twelve_calls layer; do
  best=
  for _ in 1 2 3; do
    best=$(least ${best:+"$best"} "$(seconds_of "$@")")
    [[ -s $object ]] || { echo "$name.cpp does not compile"; exit 1; }
    over=$(awk "BEGIN { print ($best / $unit > 1.2 * ${ratios[$name]}) }")
    [[ $over == 1 ]] || break
  done
  code=$(size "$object" | awk 'NR == 2 { print int($1 / 1000) }')
  printf '%s: %.1f times Eigen alone (%.2f s), known for %.1f; %d kB of code\n' "$name" \
    "$(awk "BEGIN { print $best / $unit }")" "$unit" "${ratios[$name]}" "$code" | tee -a "$report"
  [[ $over == 0 ]] || { echo "$name: more than a fifth above what it is known for"; result=1; }
done
exit "$result"
