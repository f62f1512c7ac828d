"""Phi 3's class."""

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
}

CASES = [
    Case(
        model_type="phi3",
        config=SMALL,
        variations={
            "multi-head by omission": {"num_key_value_heads": None},
            "stated head_dim": {"head_dim": 16},
            "tied": {"tie_word_embeddings": True},
            "a window": {"sliding_window": 64},
            "a window over the whole context": {"sliding_window": 2000},
            "a part of each head": {"hidden_size": 96, "partial_rotary_factor": 0.75},
            "a rescaled rotation": {
                "max_position_embeddings": 512,
                "original_max_position_embeddings": 256,
                "rope_scaling": {
                    "type": "longrope",
                    "short_factor": [1.0, 1.0, 1.0, 1.0],
                    "long_factor": [2.0, 2.0, 2.0, 2.0],
                },
            },
            "as released": {
                "attention_bias": False,
                "mlp_bias": False,
                "lm_head_bias": False,
                "full_attn_mod": 1,
                "interpolate_factor": 1,
            },
        },
    )
]
