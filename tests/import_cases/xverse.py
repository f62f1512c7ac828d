"""XVERSE's code, dense and with experts. transformers has no class: counts are by hand."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 256,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
}
TABLES = 2 * 300 * 48 + 48
EXPERT = 3 * 48 * 80
GROUPED = 2 * 48 * 48 + 2 * 48 * 16 + 96  # and two norms

CASES = [
    Case(
        model_type="xverse",
        config=SMALL,
        variations={
            "experts": {"num_key_value_heads": 2, "num_experts": 5, "moe_top_k": 2, "num_shared_experts": 2},
            "none shared": {"num_key_value_heads": 2, "num_experts": 5, "moe_top_k": 2, "norm_topk_prob": True},
        },
        params={
            "as it stands": TABLES + 3 * (4 * 48 * 48 + 96 + EXPERT),
            "experts": TABLES + 3 * (GROUPED + 7 * EXPERT + 5 * 48),
            "none shared": TABLES + 3 * (GROUPED + 5 * EXPERT + 5 * 48),
        },
    )
]
