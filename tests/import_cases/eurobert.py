"""EuroBERT's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 100,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}

CASES = [
    Case(
        model_type="eurobert",
        config=SMALL,
        variations={
            "as released": {
                "architectures": ["EuroBertForMaskedLM"],
                "classifier_pooling": "late",
                "pretraining_tp": 1,
                "rope_theta": 250000,
            },
            "biases": {"attention_bias": True, "mlp_bias": True},
            "stated head_dim": {"head_dim": 16},
            "multi-head": {"num_key_value_heads": None},
            "tied": {"tie_word_embeddings": True},
        },
        head="masked-lm",
    ),
    Case(
        model_type="eurobert",
        config={**SMALL, "architectures": ["EuroBertModel"]},
        variations={"biases": {"mlp_bias": True}},
        head="base",
        unlike={"architectures"},
    ),
]
