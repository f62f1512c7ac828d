"""Jamba."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="jamba",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 6,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "attn_layer_period": 4,
            "attn_layer_offset": 1,
            "mamba_d_state": 6,
            "mamba_d_conv": 3,
            "mamba_expand": 2,
            "mamba_dt_rank": 5,
            "max_position_embeddings": 256,
        },
        variations={
            "one expert": {"num_experts": 1, "num_experts_per_tok": 1},
            "experts everywhere": {"expert_layer_period": 1, "expert_layer_offset": 0},
            "rank by rule": {"mamba_dt_rank": "auto"},
            "biases of the mixer": {"mamba_proj_bias": True},
            "no bias in the convolution": {"mamba_conv_bias": False},
            "tied": {"tie_word_embeddings": True},
            "as released": {
                "calc_logits_for_entire_prompt": False,
                "mamba_inner_layernorms": True,
                "num_logits_to_keep": 1,
                "sliding_window": None,
                "use_mamba_kernels": True,
            },
        },
    )
]
