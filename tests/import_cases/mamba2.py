"""Mamba-2, in the schema of Codestral Mamba."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="mamba2",
        config={
            "vocab_size": 300,
            "hidden_size": 40,
            "num_heads": 8,
            "head_dim": 10,
            "expand": 2,
            "state_size": 6,
            "n_groups": 4,
            "num_hidden_layers": 3,
            "conv_kernel": 3,
            "chunk_size": 16,
        },
        variations={
            "biases": {"use_bias": True},
            "no bias in the convolution": {"use_conv_bias": False},
            "tied": {"tie_word_embeddings": True},
            "one group": {"n_groups": 1},
            "as released": {
                "rms_norm": True,
                "norm_before_gate": True,
                "residual_in_fp32": True,
                "time_step_rank": 3,
                "time_step_limit": [0.0, float("inf")],
                "time_step_min": 0.001,
            },
        },
    )
]
