"""Bamba."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="bamba",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "attn_layer_indices": [1],
            "mamba_n_heads": 8,
            "mamba_d_head": 12,
            "mamba_n_groups": 2,
            "mamba_d_state": 6,
            "mamba_d_conv": 3,
            "mamba_chunk_size": 16,
            "max_position_embeddings": 256,
        },
        variations={
            "as Bamba-9B is released": {"attn_rotary_emb": 4, "mamba_dt_rank": 256, "use_mamba_kernels": True},
            "no attention": {"attn_layer_indices": None},
            "all attention": {"attn_layer_indices": [0, 1, 2, 3]},
            "multi-head by null": {"num_key_value_heads": None},
            "stated head_dim": {"head_dim": 12, "attn_rotary_emb": 6},
            "heads by rule": {"mamba_d_head": "auto", "mamba_n_heads": 4, "mamba_expand": 3},
            "biases of the mixer": {"mamba_proj_bias": True},
            "no bias in the convolution": {"mamba_conv_bias": False},
            "biases of the attention": {"attention_bias": True},
            "biases of the feed-forward": {"mlp_bias": True},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
