"""GLM 4 of April 2025."""

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
        model_type="glm4",
        config=SMALL,
        variations={
            "tied": {"tie_word_embeddings": True},
            "no biases": {"attention_bias": False},
            "a stated part": {"partial_rotary_factor": 0.25},
        },
    )
]
