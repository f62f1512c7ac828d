"""Nemotron's dense class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "pad_token_id": 0,
    "hidden_size": 96,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}

CASES = [
    Case(
        model_type="nemotron",
        config=SMALL,
        variations={
            "eps by another name": {"layer_norm_eps": 1e-5},
            "stated head_dim": {"head_dim": 16},
            "head_dim is null": {"head_dim": None},
            "tied": {"tie_word_embeddings": True},
            "biases of the attention": {"attention_bias": True},
            "biases of the feed-forward": {"mlp_bias": True},
            "a stated part": {"partial_rotary_factor": 0.25},
            "as Minitron is released": {
                "rope_percent": 0.5,
                "partial_rotary_factor": 0.5,
                "head_dim": 16,
                "kv_channels": 16,
            },
        },
    )
]
