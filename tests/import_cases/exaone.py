"""EXAONE 3's class, as its model of 7.8B was released (recalled)."""

from __future__ import annotations

from tests.importing import Case

RELEASED = {
    "vocab_size": 102400,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 4096,
    "layer_norm_epsilon": 1e-05,
    "rope_theta": 500000.0,
    "activation_function": "silu",
    "embed_dropout": 0.0,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
}

CASES = [
    Case(
        model_type="exaone",
        config=RELEASED,
        variations={
            "with head_dim": {"head_dim": 128},
            "as EXAONE Deep is released": {"head_dim": 128, "ln_no_scale": False},
        },
        params={
            "as it stands": 7_818_448_896,  # https://huggingface.co/LGAI-EXAONE/EXAONE-3.0-7.8B-Instruct, its header, recalled
            "with head_dim": 7_818_448_896,
            "as EXAONE Deep is released": 7_818_448_896,
        },
    )
]
