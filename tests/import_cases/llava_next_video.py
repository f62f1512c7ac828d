"""LLaVA-NeXT-Video."""

from __future__ import annotations

from tests.importing import Case

TEXT = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}

CASES = [
    Case(
        model_type="llava_next_video",
        config={"text_config": TEXT, "vision_config": {}, "spatial_pool_mode": "average"},
        head="tower",
        variations={
            "tied": {"tie_word_embeddings": True},
            "untied": {"tie_word_embeddings": False},
            "tied in the tower": {"text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in the tower": {"text_config": {**TEXT, "tie_word_embeddings": False}},
            "tied in both": {"tie_word_embeddings": True, "text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in both": {"tie_word_embeddings": False, "text_config": {**TEXT, "tie_word_embeddings": False}},
            "untied around a tied tower": {
                "tie_word_embeddings": False,
                "text_config": {**TEXT, "tie_word_embeddings": True},
            },
        },
    )
]
