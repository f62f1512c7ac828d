"""ERNIE 4.5's dense class."""

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
        model_type="ernie4_5",
        config=SMALL,
        variations={
            "multi-head by omission": {"num_key_value_heads": None},
            "head_dim is null": {"head_dim": None},
            "untied": {"tie_word_embeddings": False},
            "biases": {"use_bias": True},
        },
    )
]
