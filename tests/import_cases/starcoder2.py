"""StarCoder 2's class."""

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
}

CASES = [
    Case(
        model_type="starcoder2",
        config=SMALL,
        variations={
            "untied": {"tie_word_embeddings": False},
            "stated head_dim": {"head_dim": 16},
            "no biases": {"use_bias": False},
            "a window": {"sliding_window": 64},
            "as released": {
                "activation_function": "gelu",
                "layer_norm_epsilon": 1e-05,
                "mlp_type": "default",
                "norm_type": "layer_norm",
                "scale_attn_weights": True,
                "attention_softmax_in_fp32": True,
                "scale_attention_softmax_in_fp32": True,
                "norm_epsilon": 1e-05,
            },
        },
    )
]
