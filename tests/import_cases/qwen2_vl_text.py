"""The text tower of Qwen2-VL."""

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
        model_type="qwen2_vl_text",
        config=SMALL,
        head="tower",
        variations={
            "multi-head by null": {"num_key_value_heads": None},
            "windows above": {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 1},
            "windows unused": {"use_sliding_window": False, "sliding_window": 32, "max_window_layers": 1},
            "tied": {"tie_word_embeddings": True},
            "as released": {
                "rope_theta": 1000000.0,
                "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]},
            },
        },
    )
]
