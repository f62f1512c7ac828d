"""The text tower of GLM-4.1V."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
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
        model_type="glm4v_text",
        config=SMALL,
        head="tower",
        variations={
            "multi-head by null": {"num_key_value_heads": None},
            "tied": {"tie_word_embeddings": True},
            "as released": {
                "attention_bias": True,
                "partial_rotary_factor": 0.5,
                "rope_theta": 10000.0,
                "rope_scaling": {"type": "default", "mrope_section": [1, 1]},
            },
        },
    )
]
