"""Falcon Mamba."""

from __future__ import annotations

from tests.importing import ABSENT, Case

CASES = [
    Case(
        model_type="falcon_mamba",
        config={
            "vocab_size": 300,
            "hidden_size": 40,
            "intermediate_size": 72,
            "expand": 16,
            "state_size": 6,
            "num_hidden_layers": 3,
            "conv_kernel": 3,
            "time_step_rank": 5,
            "tie_word_embeddings": False,
            "mixer_rms_eps": 1e-6,
        },
        variations={
            "width by rule": {"intermediate_size": ABSENT, "expand": 3},
            "rank by rule": {"time_step_rank": "auto"},
            "biases": {"use_bias": True},
            "no bias in the convolution": {"use_conv_bias": False},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
