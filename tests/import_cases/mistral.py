"""Mistral's class."""

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
    "sliding_window": 64,
}

CASES = [
    Case(
        model_type="mistral",
        config=SMALL,
        variations={
            "stated head_dim": {"head_dim": 16},
            "head_dim is null": {"head_dim": None},
            "tied": {"tie_word_embeddings": True},
            "no window": {"sliding_window": None},
            "a window over the whole context": {"sliding_window": 256},
            "as in the release": {"rope_theta": 1000000.0, "torch_dtype": "bfloat16", "rms_norm_eps": 1e-05},
        },
    )
]
