"""GPT-J's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {"vocab_size": 300, "n_embd": 96, "n_layer": 3, "n_head": 6, "n_positions": 64, "rotary_dim": 8}

CASES = [
    Case(
        model_type="gptj",
        config=SMALL,
        variations={
            "as released": {"n_inner": None, "rotary": True, "rope_scaling": {"rope_type": "gptj"}, "n_ctx": 64},
            "as version 5 writes it": {"rope_parameters": {"rope_type": "gptj"}},
            "tied": {"tie_word_embeddings": True},
            "stated width": {"n_inner": 100},
            "other activation": {"activation_function": "gelu"},
        },
    )
]
