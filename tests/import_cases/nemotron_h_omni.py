"""Nemotron 3 Omni."""

from __future__ import annotations

from tests.importing import Case

TEXT = {
    "model_type": "nemotron_h",
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
        model_type="nemotron_h_omni",
        config={
            "text_config": TEXT,
            "vision_config": {"video_temporal_patch_size": 2},
            "video_pruning_rate": 0.0,
        },
        head="tower",
        variations={
            "said to be untied": {"tie_word_embeddings": False},
        },
    )
]
