"""PaliGemma."""

from __future__ import annotations

from tests.importing import Case

TEXT = {
    "model_type": "gemma",
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "head_dim": 16,
}

CASES = [
    Case(
        model_type="paligemma",
        config={
            "text_config": TEXT,
            "vision_config": {},
            "projection_dim": 48,
            "hidden_size": 2048,
            "vocab_size": 257216,
        },
        head="tower",
        variations={
            "tied": {"tie_word_embeddings": True},
            "untied": {"tie_word_embeddings": False},
            "tied in both": {"tie_word_embeddings": True, "text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in both": {"tie_word_embeddings": False, "text_config": {**TEXT, "tie_word_embeddings": False}},
            "as version 5 writes it": {
                "text_config": {**TEXT, "num_image_tokens": 196, "use_bidirectional_attention": True}
            },
            "Gemma 2": {"text_config": {**TEXT, "model_type": "gemma2", "sliding_window": 32}},
        },
    )
]
