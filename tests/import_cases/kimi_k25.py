"""Kimi K2.5."""

from __future__ import annotations

from tests.importing import Case

TEXT = {
    "model_type": "deepseek_v3",
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 20,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "first_k_dense_replace": 1,
    "max_position_embeddings": 256,
}

CASES = [
    Case(
        model_type="kimi_k25",
        config={"text_config": TEXT, "vision_config": {}, "ignore_index": -100, "tie_word_embeddings": False},
        head="tower",
        variations={
            "tied": {"tie_word_embeddings": True},
            "by its older name": {"text_config": {**TEXT, "model_type": "kimi_k2"}},
            "as released": {"use_unified_vision_chunk": True, "video_placeholder": "<|kimi_k25_video_placeholder|>"},
        },
    )
]
