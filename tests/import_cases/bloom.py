"""BLOOM's class."""

from __future__ import annotations

from tests.importing import ABSENT, Case

SMALL = {"vocab_size": 300, "hidden_size": 48, "n_layer": 3, "n_head": 6}

CASES = [
    Case(
        model_type="bloom",
        config=SMALL,
        variations={
            "as released": {
                "hidden_size": ABSENT,
                "n_embed": 48,
                "n_inner": None,
                "num_attention_heads": 6,
                "offset_alibi": 100,
                "pretraining_tp": 4,
                "seq_length": 2048,
                "skip_bias_add": True,
                "skip_bias_add_qkv": False,
                "slow_but_exact": False,
                "unk_token_id": 0,
            },
            "untied": {"tie_word_embeddings": False},
            "by the library's names": {"num_hidden_layers": 3, "num_attention_heads": 6},
        },
    )
]
