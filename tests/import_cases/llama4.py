"""Llama 4."""

from __future__ import annotations

from tests.importing import Case

TEXT = {
    "model_type": "llama4_text",
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "intermediate_size_mlp": 100,
    "head_dim": 16,
    "num_local_experts": 4,
    "attention_chunk_size": 32,
    "interleave_moe_layer_step": 2,
}

CASES = [
    Case(
        model_type="llama4",
        config={"text_config": TEXT, "vision_config": {}, "boi_token_index": 200080},
        head="tower",
        variations={
            "tied in the tower": {"text_config": {**TEXT, "tie_word_embeddings": True}},
            "tied in both": {"tie_word_embeddings": True, "text_config": {**TEXT, "tie_word_embeddings": True}},
            "untied in both": {"tie_word_embeddings": False, "text_config": {**TEXT, "tie_word_embeddings": False}},
        },
    )
]
