#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""Draws compare's JSON: time per token against KV heads, a panel per table; for decode with the line
on which time is proportional to the bytes of the KV cache.

    plot.py build/release/compare.json compare.png        # needs matplotlib
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def panels(document):
    """Measurements by (phase, kv_len), in the order of the tables."""
    result = {}
    for entry in document["measurements"]:
        result.setdefault((entry["phase"], entry["kv_len"]), []).append(entry)
    for entries in result.values():
        entries.sort(key=lambda entry: entry["num_kv_heads"])
    return result


def draw(axes, phase, kv_len, entries):
    heads = [entry["num_kv_heads"] for entry in entries]
    for who, label, style in (("gqa", "gqa", "o-"), ("eigen", "Eigen with repeat_kv", "s--")):
        if all(who in entry for entry in entries):
            times = [entry[who]["seconds_per_token"] * 1e3 for entry in entries]
            axes.plot(heads, times, style, label=label)
    if phase == "decode":
        most = entries[-1]
        per_byte = most["gqa"]["seconds_per_token"] * 1e3 / most["kv_bytes"]
        axes.plot(heads, [entry["kv_bytes"] * per_byte for entry in entries], "k:",
                  label="proportional to bytes")
    axes.set(xscale="log", yscale="log", xlabel="KV heads", ylabel="ms per token",
             title=f"{phase}, {kv_len} tokens")
    axes.set_xticks(heads, [str(n) for n in heads])
    axes.minorticks_off()
    axes.grid(True, alpha=0.3)
    axes.legend()


def main():
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} compare.json picture.png")
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    tables = panels(document)
    figure, axes = plt.subplots(1, len(tables), figsize=(4.5 * len(tables), 4), squeeze=False)
    for panel, ((phase, kv_len), entries) in zip(axes[0], tables.items()):
        draw(panel, phase, kv_len, entries)
    figure.suptitle(f"{document['num_heads']} query heads, head_dim {document['head_dim']}, "
                    f"{document['dtype']}, {document['threads']} thread(s), {document['processor']}")
    figure.tight_layout()
    figure.savefig(sys.argv[2], dpi=120)


if __name__ == "__main__":
    main()
