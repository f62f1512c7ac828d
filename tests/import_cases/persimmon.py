"""Persimmon's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "pad_token_id": 0,
    "hidden_size": 96,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 256,
}

CASES = [
    Case(
        model_type="persimmon",
        config=SMALL,
        variations={
            "as the 8B is released": {"num_key_value_heads": 6, "rms_norm_eps": 1e-6},
            "tied": {"tie_word_embeddings": True},
            "no norms of queries and keys": {"qk_layernorm": False},
            "a stated part": {"partial_rotary_factor": 0.25},
            "another activation": {"hidden_act": "relu"},
        },
    )
]
