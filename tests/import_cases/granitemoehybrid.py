"""Granite 4."""

from __future__ import annotations

from tests.importing import ABSENT, Case

KINDS = ["mamba", "mamba", "attention", "mamba"]

CASES = [
    Case(
        model_type="granitemoehybrid",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 20,
            "shared_intermediate_size": 36,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
            "layer_types": KINDS,
            "mamba_n_heads": 8,
            "mamba_d_head": 12,
            "mamba_n_groups": 2,
            "mamba_d_state": 6,
            "mamba_d_conv": 3,
            "mamba_chunk_size": 16,
            "max_position_embeddings": 256,
            "position_embedding_type": "nope",
        },
        variations={
            "dense": {"num_local_experts": 0, "num_experts_per_tok": 0},
            "dense attention": {
                "num_local_experts": 0,
                "num_experts_per_tok": 0,
                "layer_types": ["attention"] * 4,
                "position_embedding_type": "rope",
                "mamba_n_heads": ABSENT,
                "mamba_d_head": ABSENT,
                "mamba_expand": 8,
            },
            "new words": {"layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"]},
            "other spelling": {"layer_types": ABSENT, "layers_block_type": KINDS},
            "mixers alone": {"layer_types": None},
            "multi-head by omission": {"num_key_value_heads": ABSENT},
            "heads by rule": {"mamba_d_head": "auto", "mamba_n_heads": 4, "mamba_expand": 3},
            "biases of the mixer": {"mamba_proj_bias": True},
            "no bias in the convolution": {"mamba_conv_bias": False},
            "biases of the attention": {"attention_bias": True},
            "tied": {"tie_word_embeddings": True},
            "multipliers": {
                "attention_multiplier": 0.0078125,
                "embedding_multiplier": 12,
                "logits_scaling": 6,
                "residual_multiplier": 0.22,
                "normalization_function": "rmsnorm",
                "rope_theta": 10000,
            },
        },
    )
]
