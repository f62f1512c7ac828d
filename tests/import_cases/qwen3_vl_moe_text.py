"""The text tower of Qwen3-VL-MoE."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "moe_intermediate_size": 20,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 256,
}

CASES = [
    Case(
        model_type="qwen3_vl_moe_text",
        config=SMALL,
        head="tower",
        variations={
            "derived head_dim": {"head_dim": None},
            "biases of the attention": {"attention_bias": True},
            "untied": {"tie_word_embeddings": False},
            "experts in some": {"decoder_sparse_step": 2},
            "plain layers": {"mlp_only_layers": [1], "norm_topk_prob": True},
            "no experts": {"num_experts": 0},
        },
    )
]
