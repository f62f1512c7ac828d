"""MPT's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {"vocab_size": 300, "d_model": 48, "n_layers": 3, "n_heads": 6, "max_seq_len": 64}

CASES = [
    Case(
        model_type="mpt",
        config=SMALL,
        variations={
            "as released": {
                "attn_config": {
                    "alibi": True,
                    "alibi_bias_max": 8,
                    "attn_impl": "torch",
                    "attn_pdrop": 0,
                    "attn_type": "multihead_attention",
                    "attn_uses_sequence_id": False,
                    "clip_qkv": None,
                    "prefix_lm": False,
                    "qk_ln": False,
                    "softmax_scale": None,
                },
                "embedding_fraction": 1.0,
                "expansion_ratio": 4,
                "init_config": {"name": "kaiming_normal_", "init_gain": 0},
                "learned_pos_emb": True,
                "no_bias": True,
                "norm_type": "low_precision_layernorm",
                "tokenizer_name": "EleutherAI/gpt-neox-20b",
                "verbose": 0,
            },
            "clipped": {"attn_config": {"clip_qkv": 6.0}},
            "scores of another scale": {"attn_config": {"softmax_scale": 0.5}},
            "untied": {"tie_word_embeddings": False},
        },
    )
]
