"""Qwen3.5-MoE."""

from __future__ import annotations

from tests.importing import Case

TEXT = {
    "model_type": "qwen3_5_moe_text",
    "vocab_size": 300,
    "hidden_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "linear_conv_kernel_dim": 3,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 10,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
    "num_experts": 6,
    "num_experts_per_tok": 2,
}

CASES = [
    Case(
        model_type="qwen3_5_moe",
        config={"text_config": TEXT, "vision_config": {}, "image_token_id": 248056},
        head="tower",
        variations={
            "tied": {"tie_word_embeddings": True},
            "untied": {"tie_word_embeddings": False},
            "tied in both": {"tie_word_embeddings": True, "text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in both": {"tie_word_embeddings": False, "text_config": {**TEXT, "tie_word_embeddings": False}},
        },
    )
]
