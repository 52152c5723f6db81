#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# readme_code.sh PROJECT_DIR
# Each C++ block of the README is a region of a source file that is compiled and run as a test:
#
#   <!-- examples/quickstart.cpp#attention -->     in the README, on the line before ```cpp
#   // [attention]  ...  // [/attention]           in the file; the region's common indent is dropped
#
# Fails with a diff where they differ, and on a C++ block that names no region.
set -euo pipefail
cd "$1"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Writes block N to $work/N.readme and its "file#region" to $work/N.source.
awk -v work="$work" '
  /^```cpp/ { inside = 1; n++; source = ""
              if (last ~ /^<!-- .*#.* -->$/) { source = last; gsub(/^<!-- | -->$/, "", source) }
              print source > (work "/" n ".source"); printf "" > (work "/" n ".readme"); next }
  /^```/    { inside = 0 }
  inside    { print > (work "/" n ".readme") }
            { last = $0 }' README.md

blocks=0
broken=0
for readme in "$work"/*.readme; do
  [[ -e $readme ]] || break
  blocks=$((blocks + 1))
  source=$(cat "${readme%.readme}.source")
  if [[ -z $source ]]; then
    echo "README.md: C++ block $blocks has no line <!-- FILE#REGION --> before it:"
    head -n 3 "$readme"
    broken=1
    continue
  fi
  file=${source%%#*} region=${source#*#}
  if ! awk -v region="$region" '
      $0 ~ "^[ \t]*// \\[" region "\\]$"  { inside = 1; found = 1; next }
      $0 ~ "^[ \t]*// \\[/" region "\\]$" { inside = 0; closed = 1 }
      inside { line[++n] = $0
               if ($0 ~ /[^ ]/) { match($0, /^ */); if (indent == "" || RLENGTH < indent) indent = RLENGTH } }
      END { for (i = 1; i <= n; i++) print substr(line[i], indent + 1)
            exit !(found && closed) }' "$file" > "$work/source"; then
    echo "README.md: block $blocks names $source, but $file has no region [$region] ... [/$region]"
    broken=1
  elif ! diff -u --label "$source" --label "README.md" "$work/source" "$readme"; then
    broken=1
  fi
done
[[ $blocks -gt 0 ]] || { echo "README.md has no C++ block"; exit 1; }
exit $broken
