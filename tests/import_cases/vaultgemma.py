"""VaultGemma's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "pad_token_id": 0,
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
        model_type="vaultgemma",
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
        },
    )
]
