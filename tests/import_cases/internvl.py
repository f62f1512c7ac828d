"""InternVL 3."""

from __future__ import annotations

from tests.importing import Case

TEXT = {
    "model_type": "qwen2",
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
        model_type="internvl",
        config={"text_config": TEXT, "vision_config": {}, "downsample_ratio": 0.5, "tie_word_embeddings": False},
        head="tower",
        variations={
            "tied": {"tie_word_embeddings": True},
            "Qwen3": {"text_config": {**TEXT, "model_type": "qwen3", "head_dim": 12}},
            "tied in both": {"tie_word_embeddings": True, "text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in both": {"tie_word_embeddings": False, "text_config": {**TEXT, "tie_word_embeddings": False}},
        },
    )
]
