"""The text tower of Qwen3.5-MoE."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "linear_conv_kernel_dim": 3,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 10,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
    "num_experts": 6,
    "num_experts_per_tok": 2,
}

CASES = [
    Case(
        model_type="qwen3_5_moe_text",
        config=SMALL,
        variations={
            "other order": {
                "layer_types": [
                    "full_attention",
                    "linear_attention",
                    "linear_attention",
                    "full_attention",
                    "full_attention",
                ]
            },
            "attention alone": {"layer_types": ["full_attention"] * 5},
            "another interval": {"full_attention_interval": 2},
            "tied": {"tie_word_embeddings": True},
            "as released": {
                "attn_output_gate": True,
                "full_attention_interval": 4,
                "mamba_ssm_dtype": "float32",
                "mlp_only_layers": [],
                "mtp_num_hidden_layers": 1,
                "mtp_use_dedicated_embeddings": False,
                "rope_parameters": {
                    "mrope_interleaved": True,
                    "mrope_section": [1, 1, 0],
                    "rope_type": "default",
                    "rope_theta": 10000000,
                    "partial_rotary_factor": 0.25,
                },
            },
        },
    )
]
