"""Qwen2-VL."""

from __future__ import annotations

from tests.importing import ABSENT, Case

TEXT = {
    "model_type": "qwen2_vl_text",
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
        model_type="qwen2_vl",
        config={"text_config": TEXT, "vision_config": {}, "image_token_id": 151655},
        head="tower",
        variations={
            "tied": {"tie_word_embeddings": True},
            "untied": {"tie_word_embeddings": False},
            "tied in the tower": {"text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in the tower": {"text_config": {**TEXT, "tie_word_embeddings": False}},
            "untied around a tied tower": {
                "tie_word_embeddings": False,
                "text_config": {**TEXT, "tie_word_embeddings": True},
            },
            "tied in both": {"tie_word_embeddings": True, "text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in both": {"tie_word_embeddings": False, "text_config": {**TEXT, "tie_word_embeddings": False}},
            "flat": {"text_config": ABSENT, **{k: v for k, v in TEXT.items() if k != "model_type"}},
            "flat and tied": {
                "text_config": ABSENT,
                "tie_word_embeddings": True,
                **{k: v for k, v in TEXT.items() if k != "model_type"},
            },
            "flat, as released": {
                "text_config": ABSENT,
                "rope_theta": 1000000.0,
                "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]},
                "vision_start_token_id": 151652,
                **{k: v for k, v in TEXT.items() if k != "model_type"},
            },
            "both ways": {k: v for k, v in TEXT.items() if k != "model_type"},
        },
    )
]
