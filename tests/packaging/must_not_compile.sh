#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# must_not_compile.sh PRECOMPILED SNIPPET COMPILER FLAGS...
# The snippet holds a wrong program, and the right one under #ifdef FIXED. The right one must compile;
# the wrong one must not, and what the compiler prints must match each of the snippet's lines
#   // EXPECT: an extended regular expression
# and hold no more errors than `// ERRORS:` says, if it does. `// FLAGS:` are added to both,
# `// FIXED_FLAGS:` to the right one. PRECOMPILED is precompile.sh's folder.
set -euo pipefail
precompiled=$1
snippet=$2
compiler=$3
shift 3
directive() { sed -nE "s|^// $1: ||p" "$snippet"; }

read -ra flags <<< "$(directive FLAGS)"
read -ra fixed_flags <<< "$(directive FIXED_FLAGS)"

compile=("$compiler")
if [[ ${#flags[@]} -eq 0 ]]; then
  if [[ -f $precompiled/gqa.pch ]]; then
    compile+=(-include-pch "$precompiled/gqa.pch")
  else
    compile+=("-I$precompiled")
  fi
fi
compile+=("$@")

if ! output=$("${compile[@]}" -fsyntax-only "${flags[@]}" "${fixed_flags[@]}" -DFIXED "$snippet" 2>&1); then
  printf 'the right program of %s does not compile:\n%s\n' "$snippet" "$output"
  exit 1
fi
if output=$("${compile[@]}" -fsyntax-only "${flags[@]}" "$snippet" 2>&1); then
  echo "$snippet compiles, and must not"
  exit 1
fi
expectations=$(directive EXPECT)
[[ -n $expectations ]] || { echo "$snippet has no line '// EXPECT: ...'"; exit 1; }
while IFS= read -r expected; do
  if ! grep -Eq -- "$expected" <<< "$output"; then
    printf '%s fails to compile, but not with "%s":\n%s\n' "$snippet" "$expected" "$output"
    exit 1
  fi
done <<< "$expectations"
most=$(directive ERRORS)
count=$(grep -c 'error: ' <<< "$output")
if [[ -n $most && $count -gt $most ]]; then
  printf '%s makes %d errors, more than %d:\n%s\n' "$snippet" "$count" "$most" "$output"
  exit 1
fi
grep -E 'error' <<< "$output" | head -n 5
