"""Qwen3-Next."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "linear_conv_kernel_dim": 3,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 10,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "intermediate_size": 80,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
    "num_experts": 6,
    "num_experts_per_tok": 2,
}

CASES = [
    Case(
        model_type="qwen3_next",
        config=SMALL,
        variations={
            "other order": {
                "layer_types": [
                    "full_attention",
                    "linear_attention",
                    "linear_attention",
                    "full_attention",
                    "full_attention",
                ]
            },
            "attention alone": {"layer_types": ["full_attention"] * 5},
            "another interval": {"full_attention_interval": 2},
            "tied": {"tie_word_embeddings": True},
            "no experts": {"num_experts": 0},
            "experts in some": {"decoder_sparse_step": 2},
            "plain layers": {"mlp_only_layers": [0, 3]},
            "as released": {
                "partial_rotary_factor": 0.25,
                "rope_scaling": None,
                "rope_theta": 10000000,
                "use_sliding_window": False,
            },
        },
    )
]
