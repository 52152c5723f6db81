# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""Holds results of attention.py to code of PyTorch and transformers that can express them."""

import torch
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as gemma2_attention
from transformers.models.gpt_oss.modeling_gpt_oss import (
    eager_attention_forward as gpt_oss_attention,
)
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

from attention import INF, Case, alibi_slopes, bias, heads_first, visible


def check(c: Case, t: dict, out: torch.Tensor, lse: torch.Tensor) -> list:
    """Compares with every implementation that can express the case; returns their names."""
    q, k, v = (heads_first(t[n]) for n in "qkv")
    seen, added = visible(c, t), bias(c, t)
    scale = c.scale if c.scale is not None else c.head_dim**-0.5
    rows = lse > -INF  # [batch, num_heads, q_len]: those that see something
    asked = []

    def agree(who, other, mine=heads_first(out), tolerance=1e-12):
        if other.dtype == torch.float32:
            tolerance = 2e-6
        at = rows & (seen.any(-1))
        error = ((other.double() - mine).abs() / (1 + mine.abs()))[at]
        assert error.numel() == 0 or error.max() < tolerance, (c.name, who, float(error.max()))
        asked.append(who)

    blend = torch.zeros(seen.shape, dtype=torch.float64) if added is None else added.clone()
    blend = blend.masked_fill(~seen, -INF)
    cap = c.rule("soft_cap")
    if not cap and "sink_logits" not in t:
        gqa = c.num_heads != c.num_kv_heads
        agree("sdpa", sdpa(q, k, v, attn_mask=blend, scale=scale, enable_gqa=gqa))
        if added is None:
            agree("sdpa bool", sdpa(q, k, v, attn_mask=seen, scale=scale, enable_gqa=gqa))

    def power_of_2(n):
        return n & (n - 1) == 0

    # what flex_attention takes: powers of 2, values no wider than keys, no sinks
    if power_of_2(c.head_dim) and c.value_dim == c.head_dim and "sink_logits" not in t:

        def score_mod(s, b, h, i, j):
            s = cap["cap"] * torch.tanh(s / cap["cap"]) if cap else s
            return s + blend[b, h, i, j]

        o, l = flex_attention(
            q,
            k,
            v,
            score_mod=score_mod,
            scale=scale,
            return_lse=True,
            enable_gqa=c.num_heads != c.num_kv_heads,
        )
        agree("flex_attention", o)
        agree("flex_attention lse", l, lse)

    class Module:  # what transformers' attention functions look at
        num_key_value_groups = c.num_heads // c.num_kv_heads
        training = False

    if "sink_logits" in t:
        Module.sinks = t["sink_logits"]
        o, _ = gpt_oss_attention(Module, q, k, v, blend, scaling=scale)
        agree("gpt_oss", heads_first(o))
    if cap and added is None and "sink_logits" not in t:
        o, _ = gemma2_attention(Module, q, k, v, blend, scaling=scale, softcap=cap["cap"])
        agree("gemma2", heads_first(o), tolerance=2e-6)  # its softmax is float32
    if c.rule("alibi"):
        slopes = build_alibi_tensor(torch.ones(1, 2), c.num_heads, torch.float64)[:, 0, 1]
        assert (slopes - alibi_slopes(c.num_heads)).abs().max() < 1e-7, c.name
        asked.append("bloom slopes")
    if c.rule("t5_bias") and c.q_len == c.kv_len:
        r = c.rule("t5_bias")
        config = T5Config(
            num_heads=c.num_heads,
            d_kv=c.head_dim,
            d_model=c.num_heads * c.head_dim,
            relative_attention_num_buckets=r["num_buckets"],
            is_decoder=not r["bidirectional"],
            relative_attention_max_distance=r["max_distance"],
        )
        module = T5Attention(config, has_relative_attention_bias=True)
        module.relative_attention_bias.weight.data = t["t5_table"]
        assert torch.equal(module.compute_bias(c.q_len, c.kv_len).expand_as(added), added), c.name
        asked.append("t5 bias")
    if c.hf_mask:
        q_pos = c.positions()
        for b in range(c.batch):
            for i in range(c.q_len):
                for j in range(c.lengths()[b]):
                    theirs = bool(c.hf_mask(b, 0, q_pos[b, i], torch.tensor(j)))
                    assert theirs == bool(seen[b, 0, i, j]), (c.name, b, i, j)
        asked.append("transformers mask")
    return asked
