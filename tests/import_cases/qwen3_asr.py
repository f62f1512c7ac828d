"""Qwen3-ASR."""

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
        model_type="qwen3_asr",
        config={"text_config": TEXT, "audio_config": {}, "tie_word_embeddings": False},
        head="tower",
        variations={
            "as version 5 writes it": {"token_classification_bias": False},
            "tied": {"tie_word_embeddings": True},
            "tied in both": {"tie_word_embeddings": True, "text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in both": {"tie_word_embeddings": False, "text_config": {**TEXT, "tie_word_embeddings": False}},
        },
    )
]
