"""Qwen2-Audio."""

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
        model_type="qwen2_audio",
        config={"text_config": TEXT, "audio_config": {}, "audio_token_index": 151646},
        head="tower",
        variations={
            "said to be untied": {"tie_word_embeddings": False},
        },
    )
]
