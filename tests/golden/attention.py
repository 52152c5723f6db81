# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""A case of attention, and the formula in float64 as Hugging Face models write it.

Every tensor is [batch, tokens, heads, dim], as in the library; K and V are repeated, scores added,
and a softmax taken. second_opinions.py holds the results to code that others wrote.
"""

import math
import zlib
from dataclasses import dataclass, field
from typing import Callable, Optional

import torch
from transformers.models.t5.modeling_t5 import T5Attention

INF = float("inf")


def random(name: str, *shape: int, spread: float = 1.0) -> torch.Tensor:
    """Normal numbers that depend on the name alone, rounded to float32, returned as float64."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    x = torch.randn(*shape, generator=generator, dtype=torch.float64) * spread
    return x.float().double()


@dataclass
class Case:
    """One call of attention. Rules are dicts, stored in the JSON as they are here."""

    name: str
    batch: int = 2
    q_len: int = 5
    kv_len: int = 19
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 8
    value_dim: int = 0  # 0: head_dim
    rules: list = field(default_factory=list)
    scale: Optional[float] = None  # None: 1 / sqrt(head_dim)
    kv_lens: Optional[list] = None  # keys per sequence; None: kv_len for all
    q_positions: Optional[list] = None  # [batch][q_len]; None: the last q_len of kv_len positions
    spread: float = 1.0  # standard deviation of q and k
    gradients: bool = False
    hf_mask: Optional[Callable] = None  # transformers' mask: f(batch, head, q_pos, k_pos)

    def __post_init__(self):
        self.value_dim = self.value_dim or self.head_dim

    def rule(self, kind: str):
        return next((r for r in self.rules if r["type"] == kind), None)

    def tensor(self, kind: str, *shape: int, spread: float = 1.0) -> torch.Tensor:
        """Cases of one shape share their numbers, which keeps the file small."""
        return random(f"{kind} {list(shape)} {spread}", *shape, spread=spread)

    def inputs(self) -> dict:
        """q, k, v and whatever tensors the rules need, by name."""
        b, h, g = self.batch, self.num_heads, self.num_kv_heads
        t = {
            "q": self.tensor("q", b, self.q_len, h, self.head_dim, spread=self.spread),
            "k": self.tensor("k", b, self.kv_len, g, self.head_dim, spread=self.spread),
            "v": self.tensor("v", b, self.kv_len, g, self.value_dim),
        }
        if self.rule("sink_logits"):
            spread = self.rule("sink_logits").get("spread", 1.0)
            t["sink_logits"] = self.tensor("sink", h, spread=spread)
        if self.rule("additive_bias"):
            t["bias"] = self.tensor("bias", *self._score_shape("additive_bias"))
            if self.rule("additive_bias").get("holes"):
                holes = self.tensor("holes", *t["bias"].shape) > 1.0
                t["bias"] = t["bias"].masked_fill(holes, -INF)
        if self.rule("dense_mask"):
            t["mask"] = self.tensor("mask", *self._score_shape("dense_mask")) > 0
            t["mask"][..., self.q_len // 2, :] = False  # a row that sees nothing
        if self.rule("t5_bias"):
            t["t5_table"] = self.tensor("t5", self.rule("t5_bias")["num_buckets"], h)
        return t

    def _score_shape(self, kind: str):
        r = self.rule(kind)
        return (
            self.batch if r.get("per_batch") else 1,
            self.num_heads if r.get("per_head") else 1,
            self.q_len,
            self.kv_len,
        )

    def lengths(self) -> list:
        return self.kv_lens if self.kv_lens is not None else [self.kv_len] * self.batch

    def positions(self) -> torch.Tensor:
        if self.q_positions is not None:
            return torch.tensor(self.q_positions)
        rows = range(self.q_len)
        return torch.tensor([[n - self.q_len + i for i in rows] for n in self.lengths()])


def alibi_slopes(num_heads: int) -> torch.Tensor:
    """get_slopes of the ALiBi paper's code (Press et al. 2022, arXiv 2108.12409), in float32."""

    def power_of_2(n):
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]

    if math.log2(num_heads).is_integer():
        return torch.tensor(power_of_2(num_heads), dtype=torch.float32).double()
    closest = 2 ** math.floor(math.log2(num_heads))
    more = alibi_slopes(2 * closest).tolist()[0::2][: num_heads - closest]
    return torch.tensor(power_of_2(closest) + more, dtype=torch.float32).double()


def t5_bias(rule: dict, table: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
    """table[bucket of k_pos - q_pos], [batch, num_heads, q_len, kv_len]."""
    bucket = T5Attention._relative_position_bucket(
        distance,
        bidirectional=rule["bidirectional"],
        num_buckets=rule["num_buckets"],
        max_distance=rule["max_distance"],
    )
    return table[bucket].permute(0, 3, 1, 2)


def visible(c: Case, t: dict) -> torch.Tensor:
    """What the masks of the case leave visible, [batch, num_heads, q_len, kv_len]."""
    q_pos = c.positions()[:, None, :, None]
    k_pos = torch.arange(c.kv_len)[None, None, None, :]
    seen = k_pos < torch.tensor(c.lengths())[:, None, None, None]
    window = c.rule("sliding_window")
    for r in c.rules:
        kind = r["type"]
        if kind == "causal":
            seen = seen & (k_pos <= q_pos)
        elif kind == "causal_top_left":
            seen = seen & (k_pos <= torch.arange(c.q_len)[None, None, :, None])
        elif kind == "sliding_window":
            inside = (k_pos <= q_pos) | (r["right"] < 0) | (k_pos - q_pos <= r["right"])
            inside = inside & ((r["left"] < 0) | (q_pos - k_pos <= r["left"]))
            if c.rule("keep_first"):
                inside = inside | (k_pos < c.rule("keep_first")["n"])
            seen = seen & inside
        elif kind == "keep_first":
            assert window is not None
        elif kind == "prefix_lm":
            prefix = torch.tensor(r["lengths"])[:, None, None, None]
            seen = seen & ((k_pos <= q_pos) | (k_pos < prefix))
        elif kind == "documents":
            k_doc = torch.tensor(r["ids"])  # [batch, kv_len]
            q_doc = torch.stack([k_doc[b][p] for b, p in enumerate(c.positions())])
            seen = seen & (q_doc[:, None, :, None] == k_doc[:, None, None, :])
        elif kind == "dense_mask":
            seen = seen & t["mask"]
    return seen.expand(c.batch, c.num_heads, c.q_len, c.kv_len)


def bias(c: Case, t: dict):
    """The sum of all that is added to the scores before the mask, or None."""
    distance = torch.arange(c.kv_len)[None, None, :] - c.positions()[:, :, None]
    total = None
    if c.rule("alibi"):
        total = alibi_slopes(c.num_heads)[None, :, None, None] * distance[:, None].double()
    if c.rule("t5_bias"):
        b = t5_bias(c.rule("t5_bias"), t["t5_table"], distance)
        total = b if total is None else total + b
    if c.rule("additive_bias"):
        total = t["bias"] if total is None else total + t["bias"]
    return None if total is None else total.expand(c.batch, c.num_heads, c.q_len, c.kv_len)


def heads_first(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2)


def attention(c: Case, t: dict):
    """out [batch, q_len, num_heads, value_dim] and lse [batch, num_heads, q_len], all float64."""
    group = c.num_heads // c.num_kv_heads
    q = heads_first(t["q"])
    k = heads_first(t["k"]).repeat_interleave(group, dim=1)
    v = heads_first(t["v"]).repeat_interleave(group, dim=1)
    scale = c.scale if c.scale is not None else c.head_dim**-0.5
    scores = q @ k.transpose(-1, -2) * scale
    if c.rule("soft_cap"):
        cap = c.rule("soft_cap")["cap"]
        scores = cap * torch.tanh(scores / cap)
    added = bias(c, t)
    if added is not None:
        scores = scores + added
    scores = scores.masked_fill(~visible(c, t), -INF)
    if "sink_logits" in t:
        sink = t["sink_logits"][None, :, None, None].expand(c.batch, -1, c.q_len, 1)
        scores = torch.cat([scores, sink], dim=-1)
    lse = torch.logsumexp(scores, dim=-1)
    # A row without a visible key is 0: its -inf - -inf would be NaN, in the gradient as well.
    empty = lse == -INF
    p = torch.exp(scores - torch.where(empty, torch.zeros_like(lse), lse)[..., None])
    return heads_first(p[..., : c.kv_len] @ v), lse
