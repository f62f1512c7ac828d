"""MiniCPM's class, as its model of 2B was released (recalled)."""

from __future__ import annotations

from tests.importing import Case

RELEASED = {
    "vocab_size": 122753,
    "hidden_size": 2304,
    "intermediate_size": 5760,
    "num_hidden_layers": 40,
    "num_attention_heads": 36,
    "num_key_value_heads": 36,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-05,
    "hidden_act": "silu",
    "scale_emb": 12,
    "scale_depth": 1.4,
    "dim_model_base": 256,
    "rope_scaling": None,
}

CASES = [
    Case(
        model_type="minicpm",
        config=RELEASED,
        variations={
            "untied": {"tie_word_embeddings": False},
            "as the fourth is released": {"mup_denominator": 40},
        },
        params={
            "as it stands": 2_724_880_896,  # https://huggingface.co/openbmb/MiniCPM-2B-sft-bf16, its weights, recalled
            "as the fourth is released": 2_724_880_896,
            "untied": 2_724_880_896 + 122_753 * 2304,
        },
    )
]
