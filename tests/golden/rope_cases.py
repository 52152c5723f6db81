# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""Rotary embeddings and RMSNorm in float64, each held to transformers' or torch's own float32 code.

transformers computes its frequencies in float32, whose rounding a large position multiplies; so
what is stored is the formula in float64, once it has been seen to agree with transformers within
that rounding.
"""

import math

import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as gptj_rotate
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as llama_rotate

from attention import random


def inverse_frequencies(r: dict, seq_len: int):
    """inv_freq [rotary_dim / 2] in float64, and the factor that cos and sin are multiplied by."""
    dim, theta, kind, factor = r["rotary_dim"], r["theta"], r["scaling"], r.get("factor")
    original = r.get("original_max_position_embeddings")
    steps = torch.arange(0, dim, 2, dtype=torch.float64) / dim
    if kind == "dynamic":  # NTK-aware: the base grows with the length
        n = max(seq_len, r["max_position_embeddings"])
        theta *= ((factor * n / r["max_position_embeddings"]) - (factor - 1)) ** (dim / (dim - 2))
    plain = 1.0 / theta**steps
    if kind in ("none", "dynamic"):
        return plain, 1.0
    if kind == "linear":
        return plain / factor, 1.0
    if kind == "llama3":
        wavelength = 2 * math.pi / plain
        low, high = r["low_freq_factor"], r["high_freq_factor"]
        smooth = (original / wavelength - low) / (high - low)
        between = (1 - smooth) * plain / factor + smooth * plain
        far = torch.where(wavelength > original / low, plain / factor, between)
        return torch.where(wavelength < original / high, plain, far), 1.0
    assert kind == "yarn"

    def dim_of(rotations):
        return dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(dim_of(r["beta_fast"])), 0)
    high = min(math.ceil(dim_of(r["beta_slow"])), dim - 1)
    high = high + 0.001 if low == high else high
    ramp = ((torch.arange(dim // 2, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
    return plain / factor * ramp + plain * (1 - ramp), 0.1 * math.log(factor) + 1.0


def hugging_face(r: dict, seq_len: int):
    """The same from transformers, float32."""
    scaling = {"rope_type": "default" if r["scaling"] == "none" else r["scaling"]}
    for key in (
        "factor",
        "original_max_position_embeddings",
        "beta_fast",
        "beta_slow",
        "low_freq_factor",
        "high_freq_factor",
    ):
        if key in r:
            scaling[key] = r[key]
    config = LlamaConfig(
        head_dim=r["head_dim"],
        rope_theta=r["theta"],
        rope_scaling=scaling,
        max_position_embeddings=r.get(
            "max_position_embeddings", r.get("original_max_position_embeddings", 2048)
        ),
    )
    config.partial_rotary_factor = r["rotary_dim"] / r["head_dim"]
    return ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, "cpu", seq_len=seq_len)


def rotate(
    r: dict, x: torch.Tensor, positions: torch.Tensor, inv_freq: torch.Tensor, factor: float
):
    """x [batch, tokens, heads, head_dim] rotated by positions [batch, tokens]."""
    half = r["rotary_dim"] // 2
    angle = (positions[:, :, None].double() * inv_freq)[:, :, None, :]
    cos, sin = angle.cos() * factor, angle.sin() * factor
    y = x.clone()
    if r["interleaved"]:
        first, second = slice(0, r["rotary_dim"], 2), slice(1, r["rotary_dim"], 2)
    else:
        first, second = slice(0, half), slice(half, 2 * half)
    y[..., first] = x[..., first] * cos - x[..., second] * sin
    y[..., second] = x[..., second] * cos + x[..., first] * sin
    return y


def hugging_face_rotate(r: dict, x, positions, inv_freq, factor):
    angle = positions[:, :, None].double() * inv_freq
    part, rest = x[..., : r["rotary_dim"]], x[..., r["rotary_dim"] :]
    if r["interleaved"]:
        part = gptj_rotate(part, angle.sin() * factor, angle.cos() * factor)
    else:
        both = torch.cat([angle, angle], dim=-1)
        part, _ = llama_rotate(
            part, part, both.cos() * factor, both.sin() * factor, unsqueeze_dim=2
        )
    return torch.cat([part, rest], dim=-1)


def rope_cases() -> list:
    plain = dict(scaling="none", theta=10000.0, head_dim=16, rotary_dim=16, interleaved=False)
    llama3 = dict(
        plain,
        scaling="llama3",
        theta=500000.0,
        head_dim=64,
        rotary_dim=64,
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    )
    yarn = dict(
        plain,
        scaling="yarn",
        head_dim=64,
        rotary_dim=64,
        factor=4.0,
        beta_fast=32.0,
        beta_slow=1.0,
        original_max_position_embeddings=2048,
    )
    dynamic = dict(plain, scaling="dynamic", factor=2.0, max_position_embeddings=128)
    return [
        dict(plain, name="rotate_half"),
        dict(plain, name="interleaved", interleaved=True),
        dict(plain, name="partial_rotate_half", rotary_dim=6),
        dict(plain, name="partial_interleaved", rotary_dim=6, interleaved=True),
        dict(plain, name="theta_1e6", theta=1e6),
        dict(plain, name="linear", scaling="linear", factor=4.0),
        # one sequence each: the frequencies depend on its length
        dict(dynamic, name="dynamic_ntk_long", positions=[[17, 400, 399]]),
        dict(dynamic, name="dynamic_ntk_short_is_plain", positions=[[0, 1, 99]]),
        dict(yarn, name="yarn"),
        dict(yarn, name="yarn_interleaved_partial", rotary_dim=32, interleaved=True, factor=40.0),
        dict(llama3, name="llama3"),
        dict(llama3, name="llama3_2_factor_32", factor=32.0, interleaved=True),
    ]


def rope(r: dict) -> dict:
    """Completes the case in place and returns its tensors."""
    r.setdefault("positions", [[0, 1, 2], [17, 400, 400]])
    r.setdefault("seq_len", 1 + max(max(p) for p in r["positions"]))
    positions = torch.tensor(r["positions"])
    x = random(f"rope {r['head_dim']}", *positions.shape, 2, r["head_dim"])
    inv_freq, factor = inverse_frequencies(r, r["seq_len"])
    theirs, their_factor = hugging_face(r, r["seq_len"])
    assert ((theirs.double() - inv_freq) / inv_freq).abs().max() < 1e-6, r["name"]
    assert abs(their_factor - factor) < 1e-12, r["name"]
    y = rotate(r, x, positions, inv_freq, factor)
    assert (hugging_face_rotate(r, x, positions, inv_freq, factor) - y).abs().max() < 1e-12, r[
        "name"
    ]
    r["attention_factor"] = factor
    return {"x": x, "y": y, "inv_freq": inv_freq}


def rms_norm_cases() -> list:
    return [
        dict(name="rms_norm_16", rows=5, dim=16, epsilon=1e-5, spread=1.0),
        dict(name="rms_norm_odd_width", rows=4, dim=37, epsilon=1e-6, spread=3.0),
        dict(name="rms_norm_tiny_numbers", rows=3, dim=8, epsilon=1e-5, spread=1e-4),
        dict(name="rms_norm_large_epsilon", rows=3, dim=12, epsilon=0.5, spread=1.0),
    ]


def rms_norm(r: dict) -> dict:
    x = random(r["name"], r["rows"], r["dim"], spread=r["spread"])
    weight = random(r["name"] + " weight", r["dim"])
    y = torch.nn.functional.rms_norm(x, (r["dim"],), weight, r["epsilon"])
    module = LlamaRMSNorm(r["dim"], r["epsilon"])
    module.weight.data = weight.float()
    assert (module(x.float()).double() - y).abs().max() < 1e-5 * y.abs().max(), r["name"]
    return {"x": x, "weight": weight, "y": y}
