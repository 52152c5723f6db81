#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""Draws compare_peers.py's JSON: time against KV heads, a panel for decoding and one for prefill of
each type, with the line on which decoding takes time in proportion to the bytes of the KV cache.

    plot.py peers.json peers.png                  # needs matplotlib
"""

import argparse
import json
import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib import ticker

CASE = re.compile(r"(?P<phase>decode|prefill)/(?P<dtype>\w+)/heads:(?P<heads>\d+)/"
                  r"kv_heads:(?P<kv_heads>\d+)/head_dim:(?P<head_dim>\d+)/[a-z_]+:(?P<tokens>\d+)/"
                  r"batch:1/threads:(?P<threads>\d+)$")
LIBRARIES = (("gqa", "gqa", "C0o-"), ("torch", "PyTorch", "C1s--"),
             ("onnxruntime", "ONNX Runtime", "C2^--"), ("openvino", "OpenVINO", "C3d--"))


def milliseconds(document, phase, dtype, tokens, threads):
    """{library: {KV heads: time}} of one panel."""
    times = {}
    for cell in document["cells"]:
        case = CASE.match(cell["case"])
        if case and (case["phase"], case["dtype"], int(case["tokens"]), int(case["threads"])) == (
                phase, dtype, tokens, threads):
            for library, entry in cell["result"].items():
                if "seconds" in entry:
                    heads = int(case["kv_heads"])
                    times.setdefault(library, {})[heads] = entry["seconds"] * 1e3
    return times


def draw(axes, title, times, proportional):
    for library, label, style in LIBRARIES:
        if library in times:
            points = sorted(times[library].items())
            axes.plot(*zip(*points), style, label=label, zorder=3 if library == "gqa" else 2)
    heads = sorted(times["gqa"])
    if proportional:
        per_head = times["gqa"][heads[-1]] / heads[-1]
        axes.plot(heads, [per_head * n for n in heads], "k:", label="in proportion to bytes")
    axes.set(xscale="log", yscale="log", xlabel="KV heads", ylabel="ms", title=title)
    axes.set_xticks(heads, [{heads[0]: f"{n}\nMQA", heads[-1]: f"{n}\nMHA"}.get(n, f"{n}\nGQA")
                            for n in heads])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_ylim(axes.get_ylim()[0] / 1.5, axes.get_ylim()[1] * 1.5)
    axes.grid(True, which="both", alpha=0.2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json")
    parser.add_argument("picture")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kv-len", type=int, default=32768, help="of decoding")
    parser.add_argument("--q-len", type=int, default=2048, help="of prefill")
    options = parser.parse_args()
    with open(options.json, encoding="utf-8") as file:
        document = json.load(file)
    panels = [(f"{phase} in {dtype}, {tokens} tokens", phase == "decode", times)
              for phase, tokens in (("decode", options.kv_len), ("prefill", options.q_len))
              for dtype in ("f32", "bf16")
              if (times := milliseconds(document, phase, dtype, tokens, options.threads))]
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.8), squeeze=False)
    for panel, (title, proportional, times) in zip(axes[0], panels):
        draw(panel, title, times, proportional)
    threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
    labels = {label: line for panel in axes[0]
              for line, label in zip(*panel.get_legend_handles_labels())}
    figure.legend(labels.values(), labels.keys(), loc="lower center", ncols=len(labels),
                  frameon=False)
    figure.suptitle(f"Attention of one layer: 32 query heads, head_dim 128, {threads}, "
                    f"{document['processor']}, {document['date']}")
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(options.picture, dpi=90)


if __name__ == "__main__":
    main()
