"""dots.llm1's class."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="dots1",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "moe_intermediate_size": 24,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "n_routed_experts": 6,
            "n_shared_experts": 2,
            "num_experts_per_tok": 2,
            "first_k_dense_replace": 1,
            "max_position_embeddings": 256,
        },
        variations={
            "windows in the upper layers": {"max_window_layers": 2, "sliding_window": 64},
            "windows by a list": {"layer_types": ["sliding_attention", *["full_attention"] * 3], "sliding_window": 64},
            "no window": {"sliding_window": None},
            "as dots.llm1 is released": {
                "scoring_func": "noaux_tc",
                "sliding_window": None,
                "use_sliding_window": False,
            },
            "biases of the attention": {"attention_bias": True},
            "no layer dense": {"first_k_dense_replace": 0},
            "no shared expert": {"n_shared_experts": 0},
            "groups": {"n_group": 3, "topk_group": 2},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
