"""SmolLM3's class."""

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
}

CASES = [
    Case(
        model_type="smollm3",
        config=SMALL,
        variations={
            "multi-head by omission": {"num_key_value_heads": None},
            "untied": {"tie_word_embeddings": False},
            "biases of the attention": {"attention_bias": True},
            "biases of the feed-forward": {"mlp_bias": True},
            "stated head_dim": {"head_dim": 16},
            "another interval": {"no_rope_layer_interval": 2},
            "rotations by layer": {"no_rope_layers": [0, 1, 1, 0, 1]},
            "windows": {"use_sliding_window": True, "sliding_window": 64},
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
            "as released": {"max_window_layers": 28, "use_sliding_window": False, "sliding_window": None},
        },
    )
]
