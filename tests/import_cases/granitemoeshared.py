"""Granite's class of experts beside a shared one."""

from __future__ import annotations

from tests.import_cases.granitemoe import SMALL
from tests.importing import Case

CASES = [
    Case(
        model_type="granitemoeshared",
        config=SMALL | {"shared_intermediate_size": 56},
        variations={
            "no shared expert": {"shared_intermediate_size": 0},
            "biases of the attention": {"attention_bias": True},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
