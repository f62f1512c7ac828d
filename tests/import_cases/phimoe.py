"""Phi-3.5-MoE's class."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="phimoe",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 40,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "num_local_experts": 5,
            "max_position_embeddings": 256,
            "attention_bias": True,
            "lm_head_bias": True,
        },
        variations={
            "plain": {"attention_bias": False, "lm_head_bias": False},
            "a window": {"sliding_window": 16},
            "a head of its own width": {"head_dim": 16},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
