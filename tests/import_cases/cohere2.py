"""Command R7B's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "sliding_window": 64,
}

CASES = [
    Case(
        model_type="cohere2",
        config=SMALL,
        variations={
            "multi-head by omission": {"num_key_value_heads": None},
            "untied": {"tie_word_embeddings": False},
            "biases of the attention": {"attention_bias": True},
            "stated head_dim": {"head_dim": 16},
            "another interval": {"sliding_window_pattern": 2},
            "windows by layer": {
                "layer_types": [
                    "sliding_attention",
                    "full_attention",
                    "full_attention",
                    "sliding_attention",
                    "full_attention",
                ]
            },
            "as released": {
                "layer_switch": 4,
                "order_of_interleaved_layers": "local_attn_first",
                "position_embedding_type": "rope_gptj",
                "rotary_pct": 1.0,
                "use_embedding_sharing": True,
                "use_gated_activation": True,
                "use_parallel_block": True,
                "use_parallel_embedding": True,
                "cache_implementation": "hybrid",
            },
        },
    )
]
