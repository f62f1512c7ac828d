"""GLM-5's class."""

from __future__ import annotations

from tests.import_cases.deepseek_v3 import SMALL
from tests.importing import Case

CASES = [
    Case(
        model_type="glm_moe_dsa",
        config=SMALL
        | {"index_n_heads": 3, "index_head_dim": 14, "index_topk": 16, "n_group": 1, "topk_group": 1, "head_dim": 8},
        variations={
            "layers by a list": {"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]},
            "an indexer in every layer": {"indexer_types": ["full"] * 4, "index_topk_freq": 4},
            "an indexer in every layer, by a pattern": {"index_topk_pattern": "FFFF"},
            "experts by another name": {"n_routed_experts": 9, "num_experts": 9},
            "biases of the attention": {"attention_bias": True},
            "tied": {"tie_word_embeddings": True},
        },
    ),
]
