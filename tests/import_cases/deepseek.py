"""DeepSeekMoE-16B, by its published code: transformers has no class of it."""

from __future__ import annotations

from tests.importing import Case

RELEASE = {
    "attention_bias": False,
    "aux_loss_alpha": 0.001,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "max_position_embeddings": 4096,
    "moe_intermediate_size": 1408,
    "moe_layer_freq": 1,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 16,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 28,
    "num_key_value_heads": 16,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000,
    "scoring_func": "softmax",
    "seq_aux": True,
    "tie_word_embeddings": False,
    "vocab_size": 102400,
}
"""https://huggingface.co/deepseek-ai/deepseek-moe-16b-base/blob/main/config.json, recalled."""

CASES = [
    Case(
        model_type="deepseek",
        config=RELEASE,
        variations={
            "every second layer sparse": {"moe_layer_freq": 2},
            "no layer sparse": {"first_k_dense_replace": 28},
        },
        # The release holds 16,375,728,128: two tables and a norm, 28 layers of 4 x 2048 x 2048 and two norms, one dense
        # feed-forward of 10944, 27 times a router and 66 experts of 1408.
        params={
            "as it stands": 16_375_728_128,
            # Layers 2, 4 .. 26 have experts, 13 of 28: 14 fewer routers and sets of experts, 14 more dense ones.
            "every second layer sparse": 16_375_728_128
            - 14 * (64 * 2048 + 66 * 3 * 2048 * 1408)
            + 14 * 3 * 2048 * 10944,
            "no layer sparse": 16_375_728_128 - 27 * (64 * 2048 + 66 * 3 * 2048 * 1408) + 27 * 3 * 2048 * 10944,
        },
    )
]
