"""Granite's class with windows."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "pad_token_id": 0,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "sliding_window": 64,
}

CASES = [
    Case(
        model_type="granite_swa",
        config=SMALL,
        variations={
            "multi-head by omission": {"num_key_value_heads": None},
            "stated head_dim": {"head_dim": 16},
            "untied": {"tie_word_embeddings": False},
            "biases of the attention": {"attention_bias": True},
            "biases of the feed-forward": {"mlp_bias": True},
            "windows by layer": {
                "layer_types": [
                    "sliding_attention",
                    "full_attention",
                    "full_attention",
                    "sliding_attention",
                    "full_attention",
                ]
            },
            "bases by layer": {"layer_rope_theta": [0, 10000, 10000, 50000, 0]},
            "one base": {"layer_rope_theta": [10000, 10000, 10000, 10000, 10000]},
            "factors": {
                "embedding_multiplier": 12.0,
                "residual_multiplier": 0.22,
                "attention_multiplier": 0.015625,
                "logits_scaling": 8.0,
            },
        },
    )
]
