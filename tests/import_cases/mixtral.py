"""Mixtral's class."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="mixtral",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 40,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 256,
        },
        variations={
            "as AWS trains it": {"moe_frequency": 1},
            "stated head_dim": {"head_dim": 16},
            "a window": {"sliding_window": 64},
            "tied": {"tie_word_embeddings": True},
            "another activation": {"hidden_act": "gelu_new"},
            "experts by their other name": {"num_local_experts": 7, "num_experts": 7},
        },
    )
]
