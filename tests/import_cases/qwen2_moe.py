"""Qwen2-MoE's class."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="qwen2_moe",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 56,
            "num_hidden_layers": 5,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "num_experts": 5,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 256,
        },
        variations={
            "every second layer sparse": {"decoder_sparse_step": 2},
            "two layers dense": {"mlp_only_layers": [1, 3]},
            "both rules": {"decoder_sparse_step": 2, "mlp_only_layers": [0, 3]},
            "no experts": {"num_experts": 0},
            "no layer sparse": {"mlp_only_layers": [0, 1, 2, 3, 4]},
            "without biases": {"qkv_bias": False},
            "normalised weights": {"norm_topk_prob": True},
            "tied": {"tie_word_embeddings": True},
            "windows by layer": {
                "use_sliding_window": True,
                "sliding_window": 64,
                "layer_types": ["full_attention", *["sliding_attention"] * 3, "full_attention"],
                "mlp_only_layers": [1],
            },
        },
    )
]
