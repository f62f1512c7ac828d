"""The class of StarCoder and SantaCoder."""

from __future__ import annotations

from tests.importing import Case

SMALL = {"vocab_size": 300, "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 64}

CASES = [
    Case(
        model_type="gpt_bigcode",
        config=SMALL,
        variations={
            "as released": {
                "n_inner": 192,
                "multi_query": True,
                "activation_function": "gelu",
                "attention_softmax_in_fp32": True,
                "inference_runner": 0,
                "max_batch_size": None,
                "pad_key_length": True,
                "validate_runner_input": True,
            },
            "multi-head": {"multi_query": False},
            "untied": {"tie_word_embeddings": False},
            "scores not scaled": {"scale_attn_weights": False},
        },
    )
]
