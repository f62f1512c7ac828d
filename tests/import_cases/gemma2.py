"""Gemma 2's class."""

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
    "head_dim": 16,
    "sliding_window": 64,
    "query_pre_attn_scalar": 24,
}

CASES = [
    Case(
        model_type="gemma2",
        config=SMALL,
        variations={
            "untied": {"tie_word_embeddings": False},
            "biases of the attention": {"attention_bias": True},
            "no caps": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
            "windows by layer": {
                "layer_types": [
                    "sliding_attention",
                    "full_attention",
                    "full_attention",
                    "sliding_attention",
                    "full_attention",
                ]
            },
            "windows nowhere": {
                "layer_types": [
                    "full_attention",
                    "full_attention",
                    "full_attention",
                    "full_attention",
                    "full_attention",
                ],
                "sliding_window": None,
            },
            "windows everywhere": {
                "layer_types": [
                    "sliding_attention",
                    "sliding_attention",
                    "sliding_attention",
                    "sliding_attention",
                    "sliding_attention",
                ]
            },
            "scale of a head": {"query_pre_attn_scalar": 16},
            "the release's spellings": {
                "hidden_act": "gelu_pytorch_tanh",
                "sliding_window_size": 64,
                "cache_implementation": "hybrid",
            },
        },
    )
]
