"""DeepSeek-V2's class."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="deepseek_v2",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "moe_intermediate_size": 24,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "n_shared_experts": 2,
            "n_routed_experts": 6,
            "num_experts_per_tok": 2,
            "first_k_dense_replace": 1,
            "kv_lora_rank": 20,
            "q_lora_rank": 28,
            "qk_nope_head_dim": 12,
            "qk_rope_head_dim": 8,
            "v_head_dim": 10,
            "max_position_embeddings": 256,
        },
        variations={
            "queries without a bottleneck, as V2-Lite": {"q_lora_rank": None},
            "biases of the attention": {"attention_bias": True},
            "biases of the attention, queries without a bottleneck": {"attention_bias": True, "q_lora_rank": None},
            "biases of the feed-forwards": {"mlp_bias": True},
            "no layer dense": {"first_k_dense_replace": 0},
            "all layers dense": {"first_k_dense_replace": 4},
            "one shared expert": {"n_shared_experts": 1},
            "no shared expert": {"n_shared_experts": 0},
            "experts from groups, as V2": {
                "topk_method": "group_limited_greedy",
                "n_group": 3,
                "topk_group": 2,
                "routed_scaling_factor": 16.0,
            },
            "tied": {"tie_word_embeddings": True},
            "rescaled rotation": {
                "rope_scaling": {"type": "yarn", "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707},
            },
        },
    )
]
