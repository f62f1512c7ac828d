"""Falcon-H1."""

from __future__ import annotations

from tests.importing import ABSENT, Case

CASES = [
    Case(
        model_type="falcon_h1",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 12,
            "max_position_embeddings": 256,
            "mamba_d_ssm": 56,
            "mamba_n_heads": 4,
            "mamba_d_head": 14,
            "mamba_n_groups": 2,
            "mamba_d_state": 6,
            "mamba_d_conv": 3,
            "mamba_chunk_size": 16,
            "rope_theta": 1e11,
        },
        variations={
            "multi-head by null": {"num_key_value_heads": None, "head_dim": ABSENT},
            "width by rule": {"mamba_d_ssm": None, "mamba_expand": 3, "mamba_d_head": "auto", "mamba_n_heads": 8},
            "a gated norm": {"mamba_rms_norm": True, "mamba_norm_before_gate": False},
            "biases of the mixer": {"mamba_proj_bias": True, "projectors_bias": True},
            "no bias in the convolution": {"mamba_conv_bias": False},
            "biases of the attention": {"attention_bias": True},
            "biases of the feed-forward": {"mlp_bias": True},
            "tied": {"tie_word_embeddings": True},
            "multipliers": {
                "attention_in_multiplier": 1.0,
                "attention_out_multiplier": 0.9375,
                "embedding_multiplier": 5.656854249492381,
                "key_multiplier": 0.390625,
                "lm_head_multiplier": 0.0390625,
                "mlp_multipliers": [0.8838834764831844, 0.5859375],
                "ssm_in_multiplier": 1.25,
                "ssm_multipliers": [0.35, 0.25, 0.35, 0.5, 0.35],
                "ssm_out_multiplier": 0.23570226039551587,
                "mamba_use_mlp": True,
                "mlp_expansion_factor": 8,
                "rope_scaling": None,
            },
        },
    )
]
