"""EXAONE 4's class."""

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
        model_type="exaone4",
        config=SMALL,
        variations={
            "tied": {"tie_word_embeddings": True},
            "stated head_dim": {"head_dim": 16},
            "another interval": {"sliding_window_pattern": 2},
            "windows by layer": {
                "layer_types": [
                    "sliding_attention",
                    "full_attention",
                    "full_attention",
                    "sliding_attention",
                    "full_attention",
                ],
                "sliding_window_pattern": "LLLG",
            },
            "no window": {
                "sliding_window": None,
                "layer_types": [
                    "full_attention",
                    "full_attention",
                    "full_attention",
                    "full_attention",
                    "full_attention",
                ],
            },
        },
    )
]
