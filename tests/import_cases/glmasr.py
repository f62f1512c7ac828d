"""GLM-ASR."""

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
        model_type="glmasr",
        config={"text_config": TEXT, "audio_config": {}, "tie_word_embeddings": False},
        head="tower",
        variations={
            "sizes that the class adds": {"text_config": {"model_type": "llama", "vocab_size": 300}},
            "some that it adds": {"text_config": {**TEXT, "num_key_value_heads": 3}},
            "tied": {"tie_word_embeddings": True},
            "tied in both": {"tie_word_embeddings": True, "text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in both": {"tie_word_embeddings": False, "text_config": {**TEXT, "tie_word_embeddings": False}},
        },
    )
]
