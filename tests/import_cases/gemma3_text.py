"""Gemma 3's decoder."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "head_dim": 16,
    "sliding_window": 64,
    "query_pre_attn_scalar": 24,
}

CASES = [
    Case(
        model_type="gemma3_text",
        config=SMALL,
        variations={
            "untied": {"tie_word_embeddings": False},
            "biases of the attention": {"attention_bias": True},
            "capped logits": {"final_logit_softcapping": 30.0},
            "another interval": {"sliding_window_pattern": 3},
            "windows by layer": {
                "layer_types": [
                    "sliding_attention",
                    "full_attention",
                    "full_attention",
                    "sliding_attention",
                    "full_attention",
                    "full_attention",
                    "full_attention",
                    "full_attention",
                ]
            },
            "windows everywhere": {
                "layer_types": [
                    "sliding_attention",
                    "sliding_attention",
                    "sliding_attention",
                    "sliding_attention",
                    "sliding_attention",
                    "sliding_attention",
                    "sliding_attention",
                    "sliding_attention",
                ]
            },
            "the release's rotations": {
                "rope_theta": 1000000,
                "rope_local_base_freq": 10000,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            },
            "rotations by kind": {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500000},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 20000},
                }
            },
        },
    )
]
