"""Gemma's first class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
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
        model_type="gemma",
        config=SMALL,
        variations={
            "untied": {"tie_word_embeddings": False},
            "biases of the attention": {"attention_bias": True},
            "the first release": {"hidden_act": "gelu"},
            "a later release": {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": None},
        },
    )
]
