"""Cohere's class of experts."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="cohere2_moe",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 40,
            "num_hidden_layers": 6,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "num_experts": 5,
            "num_experts_per_tok": 2,
            "sliding_window": 64,
            "max_position_embeddings": 256,
        },
        variations={
            "dense layers first": {"first_k_dense_replace": 2, "prefix_dense_intermediate_size": 88},
            "dense layers first, of an expert's width": {"first_k_dense_replace": 2},
            "dense layers by a list": {"mlp_layer_types": ["dense", *["sparse"] * 5], "first_k_dense_replace": 1},
            "a shared expert": {"num_shared_experts": 2, "shared_expert_combination_strategy": "sum"},
            "sigmoid scores": {"expert_selection_fn": "sigmoid"},
            "RMSNorm": {"rms_norm_eps": 1e-6},
            "windows by a list": {"layer_types": [*["full_attention"] * 2, *["sliding_attention"] * 4]},
            "multi-head by null": {"num_key_value_heads": None},
            "biases of the attention": {"attention_bias": True},
            "untied": {"tie_word_embeddings": False},
        },
    )
]
