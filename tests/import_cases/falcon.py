"""Falcon's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {"vocab_size": 300, "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 12}

CASES = [
    Case(
        model_type="falcon",
        config=SMALL,
        variations={
            "as the 7B": {
                "num_kv_heads": 12,
                "multi_query": True,
                "parallel_attn": True,
                "bias": False,
                "alibi": False,
            },
            "as the 40B": {"new_decoder_architecture": True, "num_kv_heads": 4, "n_head": 12, "n_layer": 3},
            "as the 11B": {
                "new_decoder_architecture": True,
                "num_kv_heads": 4,
                "num_ln_in_parallel_attn": 1,
                "ffn_hidden_size": 200,
                "ff_factor": 4,
                "rope_theta": 500042.0,
                "tie_word_embeddings": False,
            },
            "as RW": {"alibi": True, "bias": True, "multi_query": False, "parallel_attn": False, "rope_theta": 10000},
            "without multi-query": {"multi_query": False},
            "another activation": {"activation": "relu"},
        },
    )
]
