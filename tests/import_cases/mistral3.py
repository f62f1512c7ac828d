"""Mistral Small 3.1."""

from __future__ import annotations

from tests.importing import ABSENT, Case

TEXT = {
    "model_type": "mistral",
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "head_dim": 12,
    "sliding_window": None,
}

CASES = [
    Case(
        model_type="mistral3",
        config={
            "text_config": TEXT,
            "vision_config": {},
            "spatial_merge_size": 2,
            "multimodal_projector_bias": False,
            "tie_word_embeddings": False,
        },
        head="tower",
        variations={
            "tied": {"tie_word_embeddings": True},
            "as saved by version 5": {"tie_word_embeddings": ABSENT, "transformers_version": "5.0.0"},
            "tied in both": {"tie_word_embeddings": True, "text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in both": {"tie_word_embeddings": False, "text_config": {**TEXT, "tie_word_embeddings": False}},
        },
    )
]
