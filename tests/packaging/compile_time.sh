#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# compile_time.sh NAME BUDGET_SECONDS SOURCE REPORT COMPILER FLAGS...
# Compiles SOURCE, appends "NAME: seconds of budget" to REPORT and prints it. The time is user + system
# of the compiler, which a busy machine disturbs less than the wall clock. It fails only at three times
# the budget: the budget is for the project's own machine, this one may be slower.
set -euo pipefail
name=$1 budget=$2 source=$3 report=$4
shift 4

object=$(mktemp --suffix=.o)
trap 'rm -f "$object"' EXIT
TIMEFORMAT='%U %S'
times=$( { time "$@" -c "$source" -o "$object" 1>&2; } 2>&1 | tail -n 1)
[[ -s $object ]] || { echo "$source does not compile"; exit 1; }

line=$(awk -v times="$times" -v name="$name" -v budget="$budget" 'BEGIN {
  split(times, t, " "); s = t[1] + t[2]
  printf "%s: %.1f s of CPU, budget %g s%s\n", name, s, budget, (s > budget ? "  (over)" : "")
  exit !(s <= 3 * budget) }') || { echo "$line: more than three times the budget"; exit 1; }
echo "$line" | tee -a "$report"
