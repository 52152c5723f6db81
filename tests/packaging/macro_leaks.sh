#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# macro_leaks.sh COMPILER FLAGS...
# Every macro that a header of gqa defines must be called GQA_..., also those it undefines again, and
# only core/config.hpp and version.hpp define any. The preprocessor says who defines what (-dD), so
# macros of Eigen and of the standard library do not count, but configuring Eigen from here would.
set -euo pipefail
[[ $# -ge 1 ]] || { echo "usage: macro_leaks.sh COMPILER FLAGS..." >&2; exit 2; }

report=$(printf '#include <gqa/gqa.hpp>\n' | "$@" -E -dD -x c++ - | awk '
  /^# [0-9]+ "/ { file = $3; gsub(/"/, "", file); next }
  file ~ /include\/gqa\// && /^#(define|undef) / {
    name = $2; sub(/\(.*/, "", name); seen++
    if (name !~ /^GQA_/) print file ": " $1 " " name " is not called GQA_..."
    else if (file !~ /gqa\/(core\/config|version)\.hpp$/) print file ": " $1 " " name " belongs into core/config.hpp"
  }
  END { if (seen < 4) print "only " seen + 0 " macros seen: the check itself is broken" }')
if [[ -n $report ]]; then
  echo "$report"
  exit 1
fi
