"""DBRX's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "d_model": 48,
    "n_heads": 6,
    "n_layers": 3,
    "max_seq_len": 256,
    "attn_config": {"kv_n_heads": 2, "rope_theta": 500000, "clip_qkv": 8},
    "ffn_config": {"ffn_hidden_size": 40, "moe_num_experts": 5, "moe_top_k": 2, "moe_jitter_eps": 0},
}

CASES = [
    Case(
        model_type="dbrx",
        config=SMALL,
        variations={"multi-query": {"attn_config": {"kv_n_heads": 1, "rope_theta": 10000.0}}},
    ),
    Case(
        model_type="dbrx",
        config={
            **SMALL,
            "n_heads": 4,
            "attn_config": {"kv_n_heads": 4, "rope_theta": 10000.0, "clip_qkv": 6.5},
            "ffn_config": {
                "ffn_hidden_size": 24,
                "moe_num_experts": 4,
                "ffn_act_fn": {"name": "gelu"},
                "moe_normalize_expert_weights": None,
            },
        },
    ),
]
