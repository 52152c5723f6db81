# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""Writes golden.safetensors and golden_cases.json: what PyTorch computes for what ONNX lacks.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python make_golden.py

Inputs are float32, results float64 (computed in float64 from exactly those inputs), so that they
can hold a double kernel to 1e-12. The same versions write the same bytes. The tests need neither
Python nor this script, only the two files.
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import transformers
from safetensors.torch import save_file

from attention import attention
from attention_cases import cases
from layer_cases import layer_cases, layer_tensors
from rope_cases import rms_norm, rms_norm_cases, rope, rope_cases
from second_opinions import check

HERE = pathlib.Path(__file__).parent
TENSORS = HERE / "golden.safetensors"


class Store:
    """Tensors by name; one that is there already is not stored twice."""

    def __init__(self):
        self.tensors = {}
        self.by_bytes = {}

    def add(self, name: str, x: torch.Tensor) -> str:
        x = x.detach().contiguous()
        key = (x.dtype, tuple(x.shape), x.numpy().tobytes())
        if key not in self.by_bytes:
            self.by_bytes[key] = name
            self.tensors[name] = x
        return self.by_bytes[key]


def input_tensor(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.bool else x.float()


def attention_entry(c, store: Store) -> dict:
    t = c.inputs()
    out, lse = attention(c, t)
    asked = check(c, t, out, lse)
    entry = {
        key: getattr(c, key)
        for key in (
            "name",
            "batch",
            "q_len",
            "kv_len",
            "num_heads",
            "num_kv_heads",
            "head_dim",
            "value_dim",
            "scale",
            "kv_lens",
            "q_positions",
            "rules",
        )
        if getattr(c, key) is not None
    }
    names = {key: store.add(f"{c.name}/{key}", input_tensor(x)) for key, x in t.items()}
    names["out"] = store.add(f"{c.name}/out", out)
    names["lse"] = store.add(f"{c.name}/lse", lse)
    if c.gradients:
        wanted = [key for key in ("q", "k", "v", "sink_logits", "bias", "t5_table") if key in t]
        leaves = {key: t[key].clone().requires_grad_() for key in wanted}
        dout = c.tensor("dout", *out.shape)
        attention(c, {**t, **leaves})[0].backward(dout)
        names["dout"] = store.add(f"{c.name}/dout", dout.float())
        for key in wanted:
            assert torch.isfinite(leaves[key].grad).all(), (c.name, key)
            names["d" + key] = store.add(f"{c.name}/d{key}", leaves[key].grad)
    entry["tensors"] = names
    print(f"  {c.name}: agrees with {', '.join(asked) or 'nobody else asked'}")
    return entry


def plain_entry(r: dict, tensors: dict, store: Store) -> dict:
    names = {}
    for key, x in tensors.items():
        exact = key in ("y", "inv_freq") or (key.startswith("d") and key != "dy")
        names[key] = store.add(f"{r['name']}/{key}", x if exact else x.float())
    return {**r, "tensors": names}


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    print("torch", versions["torch"], "transformers", versions["transformers"])
    store = Store()
    sections = {
        "attention": [attention_entry(c, store) for c in cases()],
        "rope": [plain_entry(r, rope(r), store) for r in rope_cases()],
        "rms_norm": [plain_entry(r, rms_norm(r), store) for r in rms_norm_cases()],
        "layer": [plain_entry(c, layer_tensors(c), store) for c in layer_cases()],
    }
    for name, entries in sections.items():
        assert len({e["name"] for e in entries}) == len(
            entries
        ), f"two cases of {name} share a name"
    save_file(store.tensors, TENSORS, metadata=versions)
    TENSORS.chmod(0o644)
    lines = [f'"made_by": {json.dumps(versions)}', '"tensors": "golden.safetensors"']
    for name, entries in sections.items():
        body = ",\n".join(json.dumps(e) for e in entries)
        lines.append(f'"{name}": [\n{body}\n]')
    (HERE / "golden_cases.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    size = TENSORS.stat().st_size
    print({name: len(e) for name, e in sections.items()}, f"{size / 1024:.0f} KiB of tensors")


if __name__ == "__main__":
    sys.exit(main())
