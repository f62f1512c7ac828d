"""OLMo Hybrid."""

from __future__ import annotations

from tests.importing import Case

CASES = [
    Case(
        model_type="olmo_hybrid",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 5,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 6,
            "linear_value_head_dim": 10,
            "linear_conv_kernel_dim": 3,
            "pad_token_id": 0,
        },
        variations={
            "sizes by rule": {
                "linear_num_key_heads": None,
                "linear_num_value_heads": None,
                "linear_key_head_dim": None,
                "linear_value_head_dim": None,
                "num_key_value_heads": None,
            },
            "few layers": {"num_hidden_layers": 3},
            "other order": {"num_hidden_layers": 2, "layer_types": ["full_attention", "linear_attention"]},
            "stated head_dim": {"head_dim": 12},
            "biases of the attention": {"attention_bias": True},
            "tied": {"tie_word_embeddings": True},
            "not rotated": {"rope_parameters": {"rope_theta": None, "rope_type": "default"}},
            "as converted": {"rope_parameters": None, "linear_allow_neg_eigval": True, "linear_a_log_min": 0.0},
        },
    )
]
