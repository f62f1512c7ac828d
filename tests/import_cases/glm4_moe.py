"""GLM-4.5's class."""

from __future__ import annotations

from tests.importing import ABSENT, Case

CASES = [
    Case(
        model_type="glm4_moe",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "moe_intermediate_size": 24,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "n_routed_experts": 6,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "first_k_dense_replace": 1,
            "partial_rotary_factor": 0.5,
            "max_position_embeddings": 256,
        },
        variations={
            "norms of queries and keys": {"use_qk_norm": True},
            "biases of the projections in": {"attention_bias": True},
            "head_dim by hidden size": {"head_dim": ABSENT},
            "two dense layers": {"first_k_dense_replace": 2},
            "two shared experts": {"n_shared_experts": 2},
            "groups": {"n_group": 3, "topk_group": 2},
            "no further token": {"num_nextn_predict_layers": 0},
            "the rotation as newer files have it": {
                "partial_rotary_factor": ABSENT,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1000000, "partial_rotary_factor": 0.5},
            },
            "tied": {"tie_word_embeddings": True},
        },
    )
]
