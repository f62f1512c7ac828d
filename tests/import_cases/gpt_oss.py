"""GPT-OSS's class."""

from __future__ import annotations

from tests.importing import ABSENT, Case

CASES = [
    Case(
        model_type="gpt_oss",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 40,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "sliding_window": 32,
            "max_position_embeddings": 256,
        },
        variations={
            "as the release writes it": {"experts_per_token": 2, "initial_context_length": 64, "swiglu_limit": 7.0},
            "kinds of layers by a list": {"layer_types": ["full_attention", "full_attention", "sliding_attention"]},
            "no window": {"layer_types": ["full_attention"] * 3, "sliding_window": None},
            "head_dim by default": {"head_dim": ABSENT},
            "without biases": {"attention_bias": False},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
