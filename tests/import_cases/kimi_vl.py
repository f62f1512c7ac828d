"""Kimi-VL, of which transformers has no class: as many parameters as its tower has as a model of its own."""

from __future__ import annotations

from tests.import_cases.kimi_k25 import TEXT
from tests.importing import Case

# Embedding and output 2 x 300 x 48, final norm 48; each of 3 layers 2 norms of 48 and the attention: 48 x 20, norm 20,
# 20 x 6 x 12, 48 x 20, norm 16, 16 x 6 x 16, 6 x 8 x 48. One dense layer: 3 x 48 x 80; two of experts: router 6 x 48,
# six of 3 x 48 x 20 and one that all share.
ATTENTION = 48 * 20 + 20 + 20 * 72 + 48 * 20 + 16 + 16 * 96 + 48 * 48
UNTIED = 2 * 300 * 48 + 48 + 3 * (96 + ATTENTION) + 3 * 48 * 80 + 2 * (6 * 48 + 7 * 3 * 48 * 20)

CASES = [
    Case(
        model_type="kimi_vl",
        config={"text_config": TEXT, "vision_config": {}, "ignore_index": -100, "vocab_size": 300},
        variations={
            "no word of its type": {"text_config": {k: v for k, v in TEXT.items() if k != "model_type"}},
            "tied in the tower": {"text_config": {**TEXT, "tie_word_embeddings": True}},
        },
        params={
            "as it stands": UNTIED,
            "no word of its type": UNTIED,
            "tied in the tower": UNTIED - 300 * 48,
        },
    )
]
