# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The gqa authors
"""The list of attention cases: what ONNX's Attention tests lack."""

import torch
from transformers import masking_utils as hf_masks

from attention import Case


def causal(**more) -> dict:
    return {"type": "causal", **more}


def window(left: int, right: int) -> dict:
    """Keys besides the query's own; -1 is no limit (FlashAttention's window_size)."""
    return {"type": "sliding_window", "left": left, "right": right}


def prefix_lm(lengths: list):
    """transformers has no prefix-LM mask, but the parts that make it."""
    limits = torch.tensor(lengths)
    return hf_masks.or_masks(hf_masks.causal_mask_function, lambda b, h, q, k: k < limits[b])


def cases() -> list:
    hf_causal, hf_window = (
        hf_masks.causal_mask_function,
        hf_masks.sliding_window_causal_mask_function,
    )
    documents = [[0] * 5 + [1] * 9 + [2] * 1 + [3] * 18, [0] * 33]
    reused = [[7] * 6 + [4] * 6 + [7] * 6 + [0] * 15, [1, 2] * 16 + [1]]  # ids that come back
    long = dict(batch=1, q_len=5, kv_len=150)
    square = dict(batch=1, q_len=33, kv_len=33, num_heads=2, num_kv_heads=1)
    result = [
        Case("mha", num_heads=3, num_kv_heads=3),
        Case(
            "mha_causal_square",
            batch=1,
            num_heads=2,
            num_kv_heads=2,
            q_len=17,
            kv_len=17,
            rules=[causal()],
            hf_mask=hf_causal,
            gradients=True,
        ),
        Case("mqa", num_heads=6, num_kv_heads=1, gradients=True),
        Case("mqa_causal", num_heads=6, num_kv_heads=1, rules=[causal()], hf_mask=hf_causal),
        Case("mqa_decode", num_heads=8, num_kv_heads=1, rules=[causal()], **{**long, "q_len": 1}),
        Case("gqa_group3_causal", num_heads=6, num_kv_heads=2, rules=[causal()], gradients=True),
        Case("gqa_group5_causal", num_heads=10, num_kv_heads=2, rules=[causal()]),
        Case("gqa_group7_causal", num_heads=14, num_kv_heads=2, rules=[causal()], gradients=True),
        Case(
            "gqa_group7_decode", num_heads=14, num_kv_heads=2, q_len=1, kv_len=67, rules=[causal()]
        ),
        Case("gqa_group12", num_heads=12, num_kv_heads=1),
        Case("gqa_three_kv_heads", num_heads=9, num_kv_heads=3, head_dim=5, rules=[causal()]),
        Case("long_causal", rules=[causal()], hf_mask=hf_causal, **long),
        Case(
            "long_prefill_causal",
            batch=1,
            q_len=70,
            kv_len=131,
            num_kv_heads=1,
            num_heads=2,
            rules=[causal()],
            hf_mask=hf_causal,
        ),
        Case("one_key", kv_len=1, q_len=1),
        Case("one_key_seven_queries_causal", kv_len=1, rules=[causal()]),
        Case(
            "more_queries_than_keys_causal",
            batch=1,
            q_len=19,
            kv_len=7,
            rules=[causal()],
            gradients=True,
        ),
        Case("causal_top_left_short", q_len=7, kv_len=19, rules=[{"type": "causal_top_left"}]),
        Case(
            "positions_given",
            rules=[causal()],
            hf_mask=hf_causal,
            q_positions=[[0, 3, 3, 40, 1], [18, 17, 2, 2, -1]],
        ),
        Case("ragged_causal", q_len=3, kv_lens=[19, 0], rules=[causal()]),
        Case(
            "ragged_window_sink",
            q_len=3,
            kv_len=80,
            kv_lens=[1, 80],
            rules=[causal(), window(9, -1), {"type": "sink_logits"}],
        ),
        Case("value_dim_wider", head_dim=8, value_dim=16, rules=[causal()], gradients=True),
        Case("value_dim_narrower", head_dim=24, value_dim=9, rules=[causal()]),
        Case("scale_given", scale=0.31, rules=[causal()], gradients=True),
        Case("scale_one_large_scores", scale=1.0, spread=8.0, rules=[causal()]),
        Case("head_dim_64", head_dim=64, num_heads=3, num_kv_heads=1, batch=1, rules=[causal()]),
        Case("window_hf_1", rules=[causal(), window(0, -1)], hf_mask=hf_window(1)),
        Case("window_hf_5", rules=[causal(), window(4, -1)], hf_mask=hf_window(5), gradients=True),
        Case("window_hf_64_long", rules=[causal(), window(63, -1)], hf_mask=hf_window(64), **long),
        Case("window_hf_65_long", rules=[causal(), window(64, -1)], hf_mask=hf_window(65), **long),
        Case("window_hf_wider_than_kv", rules=[causal(), window(99, -1)], hf_mask=hf_window(100)),
        Case("window_flash_3_2", rules=[window(3, 2)], **square),
        Case("window_flash_0_0", rules=[window(0, 0)]),
        Case("window_flash_unlimited_1", rules=[window(-1, 1)]),
        Case("window_flash_6_unlimited", rules=[window(6, -1)], num_heads=6),
        Case("window_past_all_keys", rules=[window(2, 2)], q_len=19, kv_len=7),
        Case(
            "keep_first_4_window_8",
            batch=1,
            num_heads=2,
            num_kv_heads=1,
            q_len=9,
            kv_len=140,
            rules=[causal(), window(7, -1), {"type": "keep_first", "n": 4}],
            gradients=True,
            hf_mask=hf_masks.and_masks(
                hf_causal, hf_masks.or_masks(hf_window(8), lambda b, h, q, k: k < 4)
            ),
        ),
        Case(
            "keep_first_1_window_3_square",
            rules=[causal(), window(2, -1), {"type": "keep_first", "n": 1}],
            **square,
        ),
        Case(
            "prefix_lm",
            q_len=19,
            rules=[{"type": "prefix_lm", "lengths": [11, 0]}],
            hf_mask=prefix_lm([11, 0]),
        ),
        Case(
            "prefix_lm_with_past",
            rules=[{"type": "prefix_lm", "lengths": [19, 15]}],
            hf_mask=prefix_lm([19, 15]),
        ),
        Case(
            "documents_causal",
            rules=[causal(), {"type": "documents", "ids": documents}],
            hf_mask=hf_masks.and_masks(
                hf_causal, hf_masks.packed_sequence_mask_function(torch.tensor(documents))
            ),
            gradients=True,
            **{**square, "batch": 2},
        ),
        Case(
            "documents_bidirectional",
            rules=[{"type": "documents", "ids": documents[:1]}],
            hf_mask=hf_masks.packed_sequence_mask_function(torch.tensor(documents[:1])),
            **square,
        ),
        Case(
            "documents_with_past_ids_reused",
            rules=[causal(), {"type": "documents", "ids": reused}],
            q_len=9,
            kv_len=33,
            hf_mask=hf_masks.and_masks(
                hf_causal, hf_masks.packed_sequence_mask_function(torch.tensor(reused))
            ),
        ),
        Case("dense_mask", rules=[{"type": "dense_mask"}], gradients=True),
        Case("dense_mask_per_head", rules=[{"type": "dense_mask", "per_head": True}]),
        Case(
            "dense_mask_per_batch_and_head_causal",
            rules=[causal(), {"type": "dense_mask", "per_batch": True, "per_head": True}],
        ),
        Case("additive_bias", rules=[{"type": "additive_bias"}], gradients=True),
        Case(
            "additive_bias_per_head_causal",
            rules=[causal(), {"type": "additive_bias", "per_head": True}],
        ),
        Case(
            "additive_bias_with_minus_infinity",
            q_len=19,
            rules=[{"type": "additive_bias", "per_batch": True, "per_head": True, "holes": True}],
        ),
        Case("alibi_8_heads", num_heads=8, rules=[causal(), {"type": "alibi"}], gradients=True),
        Case("alibi_6_heads", num_heads=6, rules=[causal(), {"type": "alibi"}]),
        Case(
            "alibi_12_heads_long",
            num_heads=12,
            num_kv_heads=2,
            rules=[causal(), {"type": "alibi"}],
            batch=1,
            q_len=2,
            kv_len=130,
        ),
        Case(
            "alibi_1_head_both_directions", num_heads=1, num_kv_heads=1, rules=[{"type": "alibi"}]
        ),
        Case("alibi_window", num_heads=6, rules=[causal(), window(9, -1), {"type": "alibi"}]),
        Case("soft_cap_2_gqa", num_heads=6, rules=[causal(), {"type": "soft_cap", "cap": 2.0}]),
        Case(
            "soft_cap_50_large_scores",
            spread=8.0,
            scale=1.0,
            rules=[causal(), {"type": "soft_cap", "cap": 50.0}],
        ),
        Case(
            "soft_cap_window_gemma2",
            spread=3.0,
            scale=0.25,
            rules=[causal(), window(5, -1), {"type": "soft_cap", "cap": 5.0}],
        ),
        Case(
            "soft_cap_alibi_order",
            num_heads=6,
            spread=3.0,
            rules=[causal(), {"type": "soft_cap", "cap": 1.5}, {"type": "alibi"}],
            gradients=True,
        ),
        Case("sink_logits", rules=[causal(), {"type": "sink_logits"}], gradients=True),
        Case(
            "sink_logits_window_gpt_oss",
            num_heads=8,
            num_kv_heads=1,
            q_len=6,
            kv_len=100,
            batch=1,
            rules=[causal(), window(7, -1), {"type": "sink_logits"}],
        ),
        Case(
            "sink_logits_large",
            num_heads=6,
            num_kv_heads=2,
            rules=[causal(), {"type": "sink_logits", "spread": 30.0}],
        ),
        Case(
            "sink_logits_decode",
            q_len=1,
            kv_len=129,
            batch=1,
            rules=[causal(), {"type": "sink_logits"}],
        ),
    ]
    for name, bidirectional in (("bidirectional", True), ("causal", False)):
        t5 = {
            "type": "t5_bias",
            "bidirectional": bidirectional,
            "num_buckets": 32,
            "max_distance": 128,
        }
        small = dict(t5, num_buckets=8, max_distance=20)
        rules = [] if bidirectional else [causal()]
        result += [
            Case(f"t5_{name}", scale=1.0, rules=rules + [t5], **square, gradients=bidirectional),
            Case(
                f"t5_{name}_far", scale=1.0, num_heads=2, num_kv_heads=1, rules=rules + [t5], **long
            ),
            Case(
                f"t5_{name}_8_buckets",
                scale=1.0,
                rules=rules + [small],
                **{**square, "num_heads": 3},
            ),
        ]
    return result
