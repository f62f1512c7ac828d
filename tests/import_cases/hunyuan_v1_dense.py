"""Hunyuan's dense class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "pad_token_id": 0,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "head_dim": 16,
}

CASES = [
    Case(
        model_type="hunyuan_v1_dense",
        config=SMALL,
        variations={
            "a number of a token by another name": {"pad_id": 127961},
            "multi-head by omission": {"num_key_value_heads": None},
            "tied": {"tie_word_embeddings": True},
            "biases of the attention": {"attention_bias": True},
            "the release's rotation": {
                "rope_scaling": {
                    "alpha": 1000.0,
                    "beta_fast": 32,
                    "beta_slow": 1,
                    "factor": 1.0,
                    "mscale": 1.0,
                    "mscale_all_dim": 1.0,
                    "type": "dynamic",
                }
            },
            "as released": {
                "attention_head_dim": 16,
                "use_qk_norm": True,
                "use_cla": False,
                "norm_type": "rms",
                "add_classification_head": False,
                "class_num": 0,
            },
        },
    )
]
