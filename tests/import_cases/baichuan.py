"""Baichuan's classes, as the model of 7B was released, and that of 13B."""

from __future__ import annotations

from tests.importing import ABSENT, Case

RELEASED = {
    "vocab_size": 64000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-06,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}

CASES = [
    Case(
        model_type="baichuan",
        config=RELEASED,
        variations={
            "13B": {
                "hidden_size": 5120,
                "intermediate_size": 13696,
                "num_hidden_layers": 40,
                "num_attention_heads": 40,
                "max_position_embeddings": ABSENT,
                "model_max_length": 4096,
                "_from_model_config": True,
            },
        },
        params={
            "as it stands": 7_000_559_616,  # https://github.com/baichuan-inc/Baichuan-7B, README, recalled
            "13B": 13_264_901_120,  # https://github.com/baichuan-inc/Baichuan-13B, README, recalled
        },
    )
]
