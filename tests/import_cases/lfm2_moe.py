"""LFM2-MoE."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="lfm2_moe",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 120,
            "moe_intermediate_size": 20,
            "num_hidden_layers": 5,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "num_dense_layers": 2,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 256,
            "layer_types": ["conv", "full_attention", "conv", "full_attention", "conv"],
        },
        variations={
            "all dense": {"num_dense_layers": 5},
            "none dense": {"num_dense_layers": 0},
            "convolutions with biases": {"conv_bias": True, "conv_L_cache": 4},
            "not corrected": {"use_expert_bias": False, "norm_topk_prob": False, "routed_scaling_factor": 2.0},
            "untied": {"tie_embedding": False},
        },
    )
]
