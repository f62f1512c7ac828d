"""Voxtral."""

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
    "head_dim": 12,
}

CASES = [
    Case(
        model_type="voxtral",
        config={"text_config": TEXT, "audio_config": {}, "audio_token_id": 24},
        head="tower",
        variations={
            "said to be untied": {"tie_word_embeddings": False},
            "sizes by the class": {
                "text_config": {k: v for k, v in TEXT.items() if k not in ("head_dim", "vocab_size")}
            },
        },
    )
]
