"""RWKV-4."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="rwkv",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "attention_hidden_size": 56,
            "intermediate_size": 80,
            "context_length": 128,
        },
        variations={
            "a number of heads, which there are not": {"num_attention_heads": 24},
            "widths by null": {"attention_hidden_size": None, "intermediate_size": None},
            "tied": {"tie_word_embeddings": True},
            "as released": {"layer_norm_epsilon": 1e-5, "rescale_every": 6},
        },
    )
]
