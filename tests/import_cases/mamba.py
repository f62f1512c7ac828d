"""Mamba, in the schema of the converted releases."""

from __future__ import annotations

from tests.importing import ABSENT, Case

SMALL = {
    "vocab_size": 304,
    "hidden_size": 40,
    "state_size": 6,
    "num_hidden_layers": 3,
    "expand": 2,
    "conv_kernel": 3,
    "time_step_rank": 5,
}

CASES = [
    Case(
        model_type="mamba",
        config=SMALL,
        variations={
            "rank by omission": {"time_step_rank": ABSENT},  # ceil(40 / 16) = 3
            "rank by rule": {"time_step_rank": "auto", "hidden_size": 48},
            "biases": {"use_bias": True},
            "no bias in the convolution": {"use_conv_bias": False},
            "untied": {"tie_word_embeddings": False},
            "a stated width": {"expand": 16, "intermediate_size": 88},
            "fields of the original code": {
                "d_model": 40,
                "n_layer": 3,
                "d_inner": 80,
                "intermediate_size": 80,
                "ssm_cfg": {},
                "rms_norm": True,
                "fused_add_norm": True,
                "pad_vocab_size_multiple": 8,
                "residual_in_fp32": False,
            },
        },
    )
]
