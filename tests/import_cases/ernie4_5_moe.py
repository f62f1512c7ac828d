"""ERNIE 4.5's class of experts."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="ernie4_5_moe",
        config={
            "vocab_size": 300,
            "pad_token_id": 0,
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "moe_intermediate_size": 24,
            "moe_num_experts": 5,
            "moe_k": 2,
        },
        variations={
            "no shared experts": {"moe_num_shared_experts": 0},
            "every other layer, up to the third": {"moe_layer_interval": 2, "moe_layer_end_index": 2},
            "no layer with experts": {"moe_layer_start_index": 4},
            "biases": {"use_bias": True},
            "untied": {"tie_word_embeddings": False},
        },
    )
]
