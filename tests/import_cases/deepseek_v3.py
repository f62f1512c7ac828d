"""DeepSeek-V3's class, and Kimi K2 under the name of its own that transformers does not know."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "moe_intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_shared_experts": 1,
    "n_routed_experts": 12,
    "n_group": 4,
    "topk_group": 2,
    "num_experts_per_tok": 3,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 20,
    "q_lora_rank": 28,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 10,
    "max_position_embeddings": 256,
    "moe_layer_freq": 1,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
}

CASES = [
    Case(
        model_type="deepseek_v3",
        config=SMALL,
        variations={
            "queries without a bottleneck, as Moonlight": {"q_lora_rank": None},
            "biases of the attention": {"attention_bias": True},
            "no layer dense": {"first_k_dense_replace": 0},
            "all layers dense": {"first_k_dense_replace": 4, "num_nextn_predict_layers": 0},
            "two shared experts": {"n_shared_experts": 2},
            "no shared expert": {"n_shared_experts": 0},
            "one group": {"n_group": 1, "topk_group": 1},
            "no further token": {"num_nextn_predict_layers": 0},
            "tied": {"tie_word_embeddings": True},
            "rescaled rotation": {
                "rope_scaling": {"type": "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0},
            },
        },
    ),
    Case(
        model_type="kimi_k2",
        config=SMALL | {"n_group": 1, "topk_group": 1, "num_nextn_predict_layers": 0},
        # Attention: 48 x 28 + 28 + 28 x 80 + 48 x 28 + 20 + 20 x 88 + 40 x 48 = 8,656; its norms and the layer's: 96.
        # Dense 3 x 48 x 80 = 11,520; sparse 12 x 48 + 13 x 3 x 48 x 24 = 45,504. Tables 2 x 300 x 48, last norm 48.
        params={"as it stands": 28_800 + 48 + 4 * (8_656 + 96) + 11_520 + 3 * 45_504},
    ),
]
