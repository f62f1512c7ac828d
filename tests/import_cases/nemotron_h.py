"""Nemotron-H and Nemotron 3."""

from __future__ import annotations

from tests.importing import ABSENT, Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "hybrid_override_pattern": "M-M*M-E",
    "num_hidden_layers": 7,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "ssm_state_size": 6,
    "mamba_num_heads": 8,
    "mamba_head_dim": 10,
    "n_groups": 4,
    "conv_kernel": 3,
    "chunk_size": 16,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 20,
    "moe_shared_expert_intermediate_size": 36,
    "max_position_embeddings": 256,
}

CASES = [
    Case(
        model_type="nemotron_h",
        config=SMALL,
        # What the released code of Nemotron-H calls head_dim; transformers' class passes it over and takes its default,
        # which is what every release says.
        unlike={"attention_head_dim"},
        variations={
            "by words": {
                "hybrid_override_pattern": ABSENT,
                "num_hidden_layers": ABSENT,
                "layers_block_type": ["mamba", "mlp", "attention", "moe", "mamba"],
            },
            "by new words": {
                "hybrid_override_pattern": ABSENT,
                "num_hidden_layers": ABSENT,
                "layers_block_type": ["linear_attention", "moe", "full_attention"],
            },
            "no pattern": {"hybrid_override_pattern": ABSENT, "num_hidden_layers": ABSENT},
            "no experts": {"hybrid_override_pattern": "M-M*M-M", "n_routed_experts": ABSENT},
            "a latent": {"moe_latent_size": 24},
            "groups of experts": {"n_group": 3, "topk_group": 2},
            "biases of the mixer": {"use_bias": True},
            "biases of the feed-forward": {"mlp_bias": True},
            "no bias in the convolution": {"use_conv_bias": False},
            "another activation": {"mlp_hidden_act": "silu"},
            "older names": {
                "n_groups": ABSENT,
                "mamba_n_groups": 4,
                "conv_kernel": ABSENT,
                "mamba_d_conv": 3,
                "chunk_size": ABSENT,
                "mamba_chunk_size": 16,
                "head_dim": ABSENT,
                "attention_head_dim": 128,
            },
            "as released": {
                "expand": 2,
                "n_shared_experts": 1,
                "norm_eps": 1e-5,
                "layer_norm_epsilon": 1e-5,
                "mamba_hidden_act": "silu",
                "mamba_proj_bias": False,
                "mamba_ssm_cache_dtype": "float32",
                "moe_shared_expert_overlap": False,
                "mtp_hybrid_override_pattern": "*E",
                "num_nextn_predict_layers": 1,
                "partial_rotary_factor": 1.0,
                "rope_theta": 10000,
                "routed_scaling_factor": 5.0,
                "sliding_window": None,
                "time_step_limit": [0.0, 1e308],
                "time_step_rank": 512,
                "use_mamba_kernels": True,
            },
        },
    )
]
