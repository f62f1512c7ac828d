"""Ling's code, of both generations. transformers has no class: counts are by hand, and published where a release is whole."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "moe_intermediate_size": 24,
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "num_shared_experts": 1,
    "norm_topk_prob": True,
    "rms_norm_eps": 1e-6,
    "rope_theta": 600000,
}
SECOND = {
    "first_k_dense_replace": 1,
    "use_qk_norm": True,
    "moe_router_enable_expert_bias": True,
    "score_function": "sigmoid",
    "routed_scaling_factor": 2.5,
    "num_experts": 6,
    "n_group": 2,
    "topk_group": 1,
    "partial_rotary_factor": 0.5,
}
# Attention 2 * 48 * 48 + 2 * 48 * 16 = 6,144, norms 96, an expert 3 * 48 * 24 = 3,456, a router 48 an expert.
LAYER = 6144 + 96 + 6 * 3456 + 5 * 48
WITH_NORMS = 6144 + 96 + 2 * 8
TABLES = 2 * 300 * 48 + 48
AS_SECOND = TABLES + 3 * WITH_NORMS + 3 * 48 * 80 + 2 * (7 * 3456 + 6 * 48)

CASES = [
    Case(
        model_type="bailing_moe",
        config=SMALL,
        variations={
            "second generation": SECOND,
            "biases of the projections in": {"use_qkv_bias": True, "norm_head": True},
            "no shared expert, tied": {"num_shared_experts": 0, "tie_word_embeddings": True},
        },
        params={
            "as it stands": TABLES + 3 * LAYER,
            "second generation": AS_SECOND,
            "biases of the projections in": TABLES + 3 * (LAYER + 48 + 2 * 16),
            "no shared expert, tied": TABLES - 300 * 48 + 3 * (LAYER - 3456),
        },
    ),
    Case(model_type="bailing_moe_v2", config=SMALL | SECOND, params={"as it stands": AS_SECOND}),
]
