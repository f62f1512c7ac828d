"""Qwen 2's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}

CASES = [
    Case(
        model_type="qwen2",
        config=SMALL,
        variations={
            "multi-head by omission": {"num_key_value_heads": None},
            "stated head_dim": {"head_dim": 16},
            "tied": {"tie_word_embeddings": True},
            "a window above": {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2},
            "windows by layer": {
                "use_sliding_window": True,
                "sliding_window": 64,
                "layer_types": [
                    "sliding_attention",
                    "full_attention",
                    "full_attention",
                    "sliding_attention",
                    "full_attention",
                ],
            },
            "a window unused": {"use_sliding_window": False, "sliding_window": 64, "max_window_layers": 2},
            "as CodeQwen 1.5 is released": {"rope_theta": 1000000, "rotary_emb_base": 1000000, "seq_length": 65536},
            "the same, as version 5 writes it": {
                "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
                "rotary_emb_base": 1000000,
            },
            "biases, stated": {"attention_bias": True},
            "a window for none": {"use_sliding_window": True, "sliding_window": None},
        },
    )
]
