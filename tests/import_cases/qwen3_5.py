"""Qwen3.5."""

from __future__ import annotations

from tests.importing import Case

TEXT = {
    "model_type": "qwen3_5_text",
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
    "intermediate_size": 80,
}

CASES = [
    Case(
        model_type="qwen3_5",
        config={"text_config": TEXT, "vision_config": {}, "image_token_id": 248056, "language_model_only": False},
        head="tower",
        variations={
            "tied": {"tie_word_embeddings": True},
            "untied": {"tie_word_embeddings": False},
            "tied in both": {"tie_word_embeddings": True, "text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in both": {"tie_word_embeddings": False, "text_config": {**TEXT, "tie_word_embeddings": False}},
            "as released": {"text_config": {**TEXT, "mtp_num_hidden_layers": 1, "output_gate_type": "swish"}},
        },
    )
]
