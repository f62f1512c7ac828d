"""Qwen3-MoE's class."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="qwen3_moe",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "moe_intermediate_size": 24,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "num_experts": 5,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 256,
        },
        variations={
            "every second layer sparse": {"decoder_sparse_step": 2},
            "two layers dense": {"mlp_only_layers": [1, 3]},
            "no experts": {"num_experts": 0},
            "head_dim by hidden size": {"head_dim": 8},
            "biases of the attention": {"attention_bias": True},
            "normalised weights": {"norm_topk_prob": True},
            "a window": {"use_sliding_window": True, "sliding_window": 64},
            "a window that is not used": {"sliding_window": 64, "max_window_layers": 4},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
