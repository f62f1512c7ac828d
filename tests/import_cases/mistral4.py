"""Mistral Small 4's class."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="mistral4",
        head="own-causal-lm",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "moe_intermediate_size": 24,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "n_routed_experts": 6,
            "num_experts_per_tok": 2,
            "kv_lora_rank": 20,
            "q_lora_rank": 28,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 10,
            "max_position_embeddings": 256,
        },
        variations={
            "the rotation as files have it": {
                "rope_parameters": {
                    "type": "yarn",
                    "rope_theta": 10000.0,
                    "factor": 128.0,
                    "original_max_position_embeddings": 8192,
                    "mscale_all_dim": 1.0,
                    "mscale": 1.0,
                    "llama_4_scaling_beta": 0.1,
                    "partial_rotary_factor": 0.5,
                },
            },
            "queries without a bottleneck": {"q_lora_rank": None},
            "one layer dense": {"first_k_dense_replace": 1},
            "two shared experts": {"n_shared_experts": 2},
            "groups": {"n_group": 3, "topk_group": 2},
            "biases of the attention": {"attention_bias": True},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
