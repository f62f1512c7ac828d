"""The text tower of Qwen3-VL."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 256,
}

CASES = [
    Case(
        model_type="qwen3_vl_text",
        config=SMALL,
        head="tower",
        variations={
            "multi-head by null": {"num_key_value_heads": None},
            "biases of the attention": {"attention_bias": True},
            "tied": {"tie_word_embeddings": True},
            "as released": {
                "rope_theta": 5000000,
                "rope_scaling": {"mrope_interleaved": True, "mrope_section": [2, 2, 2], "rope_type": "default"},
            },
        },
    )
]
