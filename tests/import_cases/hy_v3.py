"""Hunyuan 3's class."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="hy_v3",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "moe_intermediate_size": 24,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 256,
        },
        variations={
            "layers by a list": {"mlp_layer_types": ["dense", "sparse", "dense", "sparse"]},
            "two shared experts": {"num_shared_experts": 2},
            "biases of the attention": {"attention_bias": True},
            "biases of the feed-forwards": {"mlp_bias": True},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
