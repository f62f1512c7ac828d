"""StableLM's class."""

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
        model_type="stablelm",
        config=SMALL,
        variations={
            "tied": {"tie_word_embeddings": True},
            "biases of queries, keys and values": {"use_qkv_bias": True},
            "norms of queries and keys": {"qk_layernorm": True},
            "parallel": {"use_parallel_residual": True},
            "a stated part": {"partial_rotary_factor": 0.5},
            "another activation": {"hidden_act": "relu"},
        },
    )
]
