"""LFM2-VL."""

from __future__ import annotations

from tests.importing import Case

TEXT = {
    "model_type": "lfm2",
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 120,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "layer_types": ["conv", "full_attention", "conv"],
}

CASES = [
    Case(
        model_type="lfm2_vl",
        config={"text_config": TEXT, "vision_config": {}, "downsample_factor": 2},
        head="tower",
        variations={
            "tied": {"tie_word_embeddings": True},
            "untied": {"tie_word_embeddings": False},
            "tied in both": {"tie_word_embeddings": True, "text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in both": {"tie_word_embeddings": False, "text_config": {**TEXT, "tie_word_embeddings": False}},
        },
    )
]
