#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# macros_of_others.sh INCLUDE_DIR MACROS FOLDER COMPILER FLAGS...
# No header of gqa may use a name that MACROS, a header, defines: as headers of others do, which may come
# before. First every word of the code is looked at, those for other instruction sets included. (Macros
# with arguments are met only before a parenthesis: of `max`, std::max<Index>(a, b) and (std::max)(a, b)
# are none.) Then all headers are compiled after MACROS, in FOLDER; what they include of the standard
# library and of Eigen is read before.
set -euo pipefail
include=$1 macros=$2 folder=$3
shift 3
mapfile -t headers < <(cd "$include" && find gqa -name '*.hpp' | sort)
[[ ${#headers[@]} -gt 50 ]] || { echo "only ${#headers[@]} headers found: the check itself is broken"; exit 1; }

clashes=$(cd "$include" && awk '
  FNR == NR && $1 == "#define" && $2 !~ /^GQA_/ {
    name = $2
    takes_arguments[name] = sub(/\(.*/, "", name)
    if (name != $2) { delete takes_arguments[$2]; takes_arguments[name] = 1 }
  }
  FNR == NR { next }
  {
    line = $0
    gsub(/"([^"\\]|\\.)*"/, "", line)
    sub(/\/\/.*/, "", line)
    while (match(line, /[A-Za-z_][A-Za-z_0-9]*/)) {
      name = substr(line, RSTART, RLENGTH)
      line = substr(line, RSTART + RLENGTH)
      if (name in takes_arguments && (!takes_arguments[name] || line ~ /^ *\(/)) {
        print FILENAME ":" FNR ": " name " is a macro elsewhere"
      }
    }
  }' "$macros" "${headers[@]}")
if [[ -n $clashes ]]; then
  echo "$clashes"
  exit 1
fi

mkdir -p "$folder"
{
  echo '#include <complex.h>'
  (cd "$include" && sed -nE 's|^#include (<[A-Za-z_/0-9]*>).*|#if __has_include(\1)\n#include \1\n#endif|p' "${headers[@]}")
  echo "#include \"$macros\""
  printf '#include <%s>\n' "${headers[@]}"
} > "$folder/all.cpp"
"$@" -std=gnu++20 -fsyntax-only "$folder/all.cpp"
