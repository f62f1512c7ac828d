"""GPT-NeoX' class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
}

CASES = [
    Case(
        model_type="gpt_neox",
        config=SMALL,
        variations={
            "as released": {"rotary_pct": 0.25, "rotary_emb_base": 10000, "use_parallel_residual": True},
            "serial": {"use_parallel_residual": False, "rotary_pct": 1.0},
            "without biases": {"attention_bias": False},
            "tied": {"tie_word_embeddings": True},
            "newer names": {
                "rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "partial_rotary_factor": 0.5}
            },
        },
    )
]
