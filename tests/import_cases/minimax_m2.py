"""MiniMax-M2's class."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="minimax_m2",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 40,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "rotary_dim": 8,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 256,
        },
        variations={
            "as the release writes it": {
                "attn_type_list": [1, 1, 1],
                "mtp_transformer_layers": 1,
                "num_mtp_modules": 3,
                "qk_norm_type": "per_layer",
                "scoring_func": "sigmoid",
                "shared_intermediate_size": 0,
                "use_mtp": True,
                "use_qk_norm": True,
                "use_routing_bias": True,
            },
            "both names of the rotated part": {"partial_rotary_factor": 0.5},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
