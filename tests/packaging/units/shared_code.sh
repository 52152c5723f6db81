#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# shared_code.sh OBJECT...
# The objects are of programs for several x86-64 instruction sets, the lowest of them the baseline. A
# function that two of them have under one name, as a weak symbol, is merged by the linker, and which
# copy stays depends on the order of linking: so no such function may have an instruction that the
# baseline lacks, or call one for a certain instruction set.
set -euo pipefail
export LC_ALL=C
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Everything with a VEX or EVEX prefix begins with v (verr and verw are older), mask registers with k;
# the rest is what SSE3 to SSE4.2, POPCNT, LZCNT, BMI, BMI2 and MOVBE added. (tzcnt is not among them:
# older processors read it as bsf, and compilers write it for them.)
beyond='^(v[a-df-z]|ve[a-qs-z]|k[a-z]|popcnt|lzcnt|andn|bextr|bls|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx|movbe'
beyond+='|addsub|haddp|hsubp|lddqu|movddup|movs[hl]dup|pabs|palignr|phadd|phsub|pmaddubsw|pmulhrsw|pshufb|psign'
beyond+='|blendp|blendv|dpp[sd]|extractps|insertps|movntdqa|mpsadbw|packusdw|pblend|pcmp[eg][qt]q|pcmp[ei]str'
beyond+='|pextr[bdq]|phminposuw|pinsr[bdq]|pmax[su][bd]$|pmaxuw|pmin[su][bd]$|pminuw|pmov[sz]x|pmuldq|pmulld|ptest|round[ps][sd]|crc32)'

for object in "$@"; do
  # What carries a tag meets none but its like.
  nm "$object" | awk '$2 ~ /^[WVu]$/ && $3 !~ /isa_/ { print $3 }' | sort -u > "$work/weak"
  # Each function, and whether it goes beyond the baseline: "name instruction".
  objdump -d --no-show-raw-insn "$object" | awk -v beyond="$beyond" -v object="$object" '
    /^[0-9a-f]+ <.*>:$/ { name = $2; gsub(/^<|(\.cold)?>:$/, "", name); next }
    name != "" && $2 ~ beyond && !(name in seen) { seen[name] = 1; print name, $2, object }' |
    sort | tee -a "$work/all_beyond" | join - "$work/weak" >> "$work/beyond"
  # The same of calls to tagged functions. Each weak function has a section of its own.
  objdump -r "$object" | awk -v object="$object" '
    /^RELOCATION RECORDS FOR / { name = $4; gsub(/^\[\.text\.(unlikely\.)?|\]:$/, "", name); next }
    name !~ /isa_/ && $3 ~ /isa_/ { callee = $3; sub(/[-+]0x[0-9a-f]+$/, "", callee); print name, "calls " callee, object }' |
    sort -u | join - "$work/weak" >> "$work/beyond"
  cat "$work/weak" >> "$work/names"
done
[[ $(wc -l < "$work/all_beyond") -gt 20 ]] || { echo "hardly a vector instruction seen: the check itself is broken"; exit 1; }

sort "$work/names" | uniq -d > "$work/shared"
[[ -s $work/shared ]] || { echo "no shared symbol at all: the check itself is broken"; exit 1; }
if sort "$work/beyond" | join - "$work/shared" | c++filt | grep .; then
  echo "^ functions that several objects share, with an instruction that not every processor has"
  exit 1
fi
echo "$(wc -l < "$work/shared") functions are shared, none with such an instruction"
