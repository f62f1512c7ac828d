"""K-EXAONE's class."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="exaone_moe",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "moe_intermediate_size": 24,
            "num_hidden_layers": 8,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "first_k_dense_replace": 1,
            "sliding_window": 64,
            "max_position_embeddings": 256,
        },
        variations={
            "as the release writes it": {
                "layer_types": [*["sliding_attention"] * 3, "full_attention"] * 2,
                "sliding_window_pattern": "LLLG",
            },
            "every second layer sees all": {"sliding_window_pattern": 2},
            "layers by a list": {"mlp_layer_types": ["dense", *["sparse"] * 7]},
            "two shared experts": {"num_shared_experts": 2},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
