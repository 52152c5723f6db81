#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
#
# All figures at once, for README.md: builds the release preset's benchmarks, and writes the machine's
# limits, the table of goals, the spills and the peers to build/figures/, each with machine, compiler,
# date and load. About four minutes; more than twice as long with the peers.
#
#   bench/figures.sh                          without the peers
#   bench/figures.sh /path/to/venv/bin/python with them, by a Python that has peers/requirements.txt
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-}
out=build/figures
mkdir -p "$out"

cmake --preset release > /dev/null
cmake --build --preset release -j 1 --target bench_attention_bench bench_gqa_roofline

# Figures of a busy machine aren't worth writing down.
load=$(cut -d ' ' -f 1 /proc/loadavg)
if awk -v load="$load" 'BEGIN { exit !(load > 1.3) }'; then
  echo "note: the load is $load; compiling just now counts, other programs falsify the figures" >&2
fi
{
  date -u '+%d %B %Y, %H:%M UTC'
  grep -m 1 'model name' /proc/cpuinfo | cut -d ':' -f 2-
  c++ --version | head -n 1
  git log -1 --format='commit %h'
  echo "load before: $(cat /proc/loadavg)"
} | tee "$out/machine.txt"

failed=0
run() {  # run NAME COMMAND...: on the terminal and into NAME.txt
  local name=$1
  shift
  printf '\n=== %s\n' "$name"
  "$@" 2>&1 | tee "$out/$name.txt" || failed=1
}
run roofline build/release/bench/gqa_roofline --json "$out/roofline.json"
run attention_bench build/release/bench/attention_bench --table \
  "--benchmark_out=$out/attention_bench.json" --benchmark_out_format=json
run spills bench/spills.py
if [[ -n $python ]]; then
  run peers "$python" bench/peers/compare_peers.py \
    --bench build/release/bench/attention_bench --json "$out/peers.json"
fi
echo "load after: $(cat /proc/loadavg)" | tee -a "$out/machine.txt"
echo "in $out: $(ls "$out" | tr '\n' ' ')"
exit $failed
