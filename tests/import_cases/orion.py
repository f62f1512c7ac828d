"""Orion's class, as Orion-14B was released."""

from __future__ import annotations

from tests.importing import Case

RELEASED = {
    "hidden_act": "silu",
    "hidden_size": 5120,
    "intermediate_size": 15360,
    "max_position_embeddings": 4096,
    "max_sequence_length": 4096,
    "num_attention_heads": 40,
    "num_hidden_layers": 40,
    "num_key_value_heads": 40,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": 84608,
}

CASES = [
    Case(
        model_type="orion",
        config=RELEASED,
        params={
            # Tables 2 x 84608 x 5120; per layer 4 x 5120 x 5120, 3 x 5120 x 15360 and two norms of 2 x 5120; one more norm.
            "as it stands": 866_385_920 + 40 * (104_857_600 + 235_929_600 + 20_480) + 10_240,
        },
    )
]
