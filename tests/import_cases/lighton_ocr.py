"""LightOnOCR."""

from __future__ import annotations

from tests.importing import Case

TEXT = {
    "model_type": "qwen3",
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "head_dim": 12,
}

CASES = [
    Case(
        model_type="lighton_ocr",
        config={"text_config": TEXT, "vision_config": {}, "spatial_merge_size": 2, "tie_word_embeddings": False},
        head="tower",
        variations={
            "tied": {"tie_word_embeddings": True},
            "tied in both": {"tie_word_embeddings": True, "text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in both": {"tie_word_embeddings": False, "text_config": {**TEXT, "tie_word_embeddings": False}},
        },
    )
]
