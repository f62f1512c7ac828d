"""GPT-Neo's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "num_layers": 5,
    "num_heads": 6,
    "max_position_embeddings": 64,
    "window_size": 16,
    "attention_types": [[["global", "local"], 2], [["local"], 1]],
}

CASES = [
    Case(
        model_type="gpt_neo",
        config=SMALL,
        variations={
            "as released": {
                "attention_layers": ["global", "local", "global", "local", "local"],
                "intermediate_size": None,
                "summary_activation": None,
            },
            "stated width": {"intermediate_size": 100},
            "untied": {"tie_word_embeddings": False},
            "all global": {"attention_types": [[["global"], 5]]},
        },
    )
]
