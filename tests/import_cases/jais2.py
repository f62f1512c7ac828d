"""Jais 2's class."""

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
        model_type="jais2",
        config=SMALL,
        variations={
            "multi-head by omission": {"num_key_value_heads": None},
            "stated head_dim": {"head_dim": 16},
            "tied": {"tie_word_embeddings": True},
            "no biases of the attention": {"attention_bias": False},
            "no biases of the feed-forward": {"mlp_bias": False},
        },
    )
]
