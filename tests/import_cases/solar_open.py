"""Solar Open's class."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="solar_open",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "moe_intermediate_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "n_routed_experts": 6,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 256,
        },
        variations={
            "biases of the projections in": {"attention_bias": True},
            "two shared experts": {"n_shared_experts": 2},
            "groups": {"n_group": 3, "topk_group": 2},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
