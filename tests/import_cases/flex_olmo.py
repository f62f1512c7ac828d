"""FlexOlmo's class."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="flex_olmo",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 40,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "num_experts": 5,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 256,
            "pad_token_id": 1,
        },
        variations={
            "stated head_dim": {"head_dim": 16},
            "multi-head by null": {"num_key_value_heads": None},
            "biases of the attention": {"attention_bias": True},
            "normalised weights": {"norm_topk_prob": True},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
