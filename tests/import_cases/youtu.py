"""Youtu-LLM's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "pad_token_id": 0,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 256,
    "q_lora_rank": 20,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 6,
    "v_head_dim": 14,
}

CASES = [
    Case(
        model_type="youtu",
        config=SMALL,
        variations={
            "untied": {"tie_word_embeddings": False},
            "biases of the attention": {"attention_bias": True},
            "queries at once": {"q_lora_rank": None},
            "a rescaled rotation": {
                "rope_scaling": {
                    "type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 64,
                    "mscale": 1.0,
                    "mscale_all_dim": 1.0,
                }
            },
        },
    )
]
