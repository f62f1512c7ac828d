"""RecurrentGemma."""

from __future__ import annotations

from tests.importing import ABSENT, Case

CASES = [
    Case(
        model_type="recurrent_gemma",
        config={
            "vocab_size": 300,
            "hidden_size": 48,
            "intermediate_size": 82,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "lru_width": 56,
            "conv1d_width": 3,
            "attention_window_size": 20,
        },
        variations={
            "the pattern of the first release": {
                "block_types": ABSENT,
                "_block_types": ["recurrent", "recurrent", "attention"],
            },
            "as wide as the model": {"lru_width": None},
            "multi-head by omission": {"num_key_value_heads": ABSENT},
            "other order": {"block_types": ["attention", "recurrent"]},
            "biases of the attention": {"attention_bias": True},
            "untied": {"tie_word_embeddings": False},
            "stated head_dim": {"head_dim": 16},
            "all of a head rotated": {"partial_rotary_factor": 1.0},
            "as released": {
                "embeddings_scale_by_sqrt_dim": True,
                "final_w_init_variance_scale": 0.07692307692307693,
                "hidden_activation": "gelu_pytorch_tanh",
                "logits_soft_cap": 30.0,
                "rope_theta": 10000.0,
                "w_init_variance_scale": 0.01,
            },
        },
    )
]
