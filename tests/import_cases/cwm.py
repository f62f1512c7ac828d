"""The Code World Model's class."""

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
    "head_dim": 16,
}

CASES = [
    Case(
        model_type="cwm",
        config=SMALL,
        variations={
            "tied": {"tie_word_embeddings": True},
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
        },
    )
]
