"""DistilBERT's class."""

from __future__ import annotations

from tests.importing import Case

SMALL = {
    "vocab_size": 300,
    "dim": 48,
    "n_layers": 3,
    "n_heads": 6,
    "hidden_dim": 100,
    "max_position_embeddings": 64,
}

CASES = [
    Case(
        model_type="distilbert",
        config=SMALL,
        variations={
            "as released": {
                "architectures": ["DistilBertForMaskedLM"],
                "qa_dropout": 0.1,
                "seq_classif_dropout": 0.2,
                "sinusoidal_pos_embds": False,
                "tie_weights_": True,
            },
            "sinusoids": {"sinusoidal_pos_embds": True},
            "untied": {"tie_word_embeddings": False},
        },
        head="masked-lm",
    ),
    Case(
        model_type="distilbert",
        config={**SMALL, "architectures": ["DistilBertModel"]},
        variations={"another activation": {"activation": "relu"}},
        head="base",
        unlike={"architectures"},
    ),
]
