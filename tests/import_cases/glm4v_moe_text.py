"""The text tower of GLM-4.5V."""

from __future__ import annotations

from tests.importing import ABSENT, Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "moe_intermediate_size": 20,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "max_position_embeddings": 256,
}

CASES = [
    Case(
        model_type="glm4v_moe_text",
        config=SMALL,
        head="tower",
        variations={
            "derived head_dim": {"head_dim": ABSENT},
            "no biases": {"attention_bias": False},
            "more shared": {"n_shared_experts": 2},
            "two dense": {"first_k_dense_replace": 2},
            "groups": {"n_group": 3, "topk_group": 2},
            "tied": {"tie_word_embeddings": True},
            "as released": {"partial_rotary_factor": 0.5, "use_qk_norm": False, "routed_scaling_factor": 1.0},
        },
    )
]
