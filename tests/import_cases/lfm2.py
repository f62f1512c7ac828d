"""LFM2."""

from __future__ import annotations

from tests.importing import ABSENT, Case

CASES = [
    Case(
        model_type="lfm2",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 120,
            "block_multiple_of": 16,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "layer_types": ["conv", "full_attention", "conv", "conv"],
        },
        variations={
            "by places": {"layer_types": ABSENT, "full_attn_idxs": [1, 3]},
            "attention alone": {"layer_types": None},
            "not adjusted": {"block_auto_adjust_ff_dim": False},
            "adjusted by a factor": {"block_ffn_dim_multiplier": 1.3},
            "longer convolutions with biases": {"conv_bias": True, "conv_L_cache": 4},
            "untied": {"tie_word_embeddings": False},
            "untied by its older name": {"tie_embedding": False},
            "stated head_dim": {"head_dim": 12},
            "as released": {
                "block_dim": 48,
                "block_ff_dim": 140,
                "block_ffn_dim_multiplier": 1.0,
                "block_mlp_init_scale": 1.0,
                "block_norm_eps": 1e-5,
                "block_out_init_scale": 1.0,
                "block_use_swiglu": True,
                "block_use_xavier_init": True,
                "conv_dim": 48,
                "conv_dim_out": 48,
                "conv_use_xavier_init": True,
                "full_attn_idxs": [1],
                "num_heads": 6,
                "rope_theta": 1000000.0,
                "tie_embedding": True,
                "use_pos_enc": True,
            },
        },
    )
]
