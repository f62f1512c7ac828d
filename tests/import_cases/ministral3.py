"""Ministral 3's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "pad_token_id": 0,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "head_dim": 16,
}

CASES = [
    Case(
        model_type="ministral3",
        config=SMALL,
        variations={
            "tied": {"tie_word_embeddings": True},
            "a window": {"sliding_window": 64},
            "as released": {
                "rope_parameters": {
                    "type": "yarn",
                    "rope_type": "yarn",
                    "rope_theta": 1000000.0,
                    "factor": 4.0,
                    "original_max_position_embeddings": 64,
                    "beta_fast": 32.0,
                    "beta_slow": 1.0,
                    "mscale": 1.0,
                    "mscale_all_dim": 1.0,
                    "llama_4_scaling_beta": 0.1,
                }
            },
        },
    )
]
