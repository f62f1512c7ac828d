"""OLMo 3's class."""

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
    "sliding_window": 64,
}

CASES = [
    Case(
        model_type="olmo3",
        config=SMALL,
        variations={
            "multi-head by omission": {"num_key_value_heads": None},
            "tied": {"tie_word_embeddings": True},
            "biases of the attention": {"attention_bias": True},
            "windows by layer": {
                "layer_types": [
                    "sliding_attention",
                    "full_attention",
                    "full_attention",
                    "sliding_attention",
                    "full_attention",
                ]
            },
            "as released": {
                "rope_theta": 500000,
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 8.0,
                    "original_max_position_embeddings": 64,
                    "attention_factor": 1.2,
                    "beta_fast": 32,
                    "beta_slow": 1,
                },
            },
        },
    )
]
