"""Phi's first class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 96,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}

CASES = [
    Case(
        model_type="phi",
        config=SMALL,
        variations={
            "multi-head by omission": {"num_key_value_heads": None},
            "tied": {"tie_word_embeddings": True},
            "norms of queries and keys": {"qk_layernorm": True},
            "a stated part": {"partial_rotary_factor": 0.25},
            "whole heads": {"partial_rotary_factor": 1.0},
            "another activation": {"hidden_act": "relu"},
        },
    )
]
