"""Apertus' class."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="apertus",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
        },
        variations={
            "multi-head by null": {"num_key_value_heads": None},
            "another activation": {"hidden_act": "relu2"},
            "biases of the attention": {"attention_bias": True},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
