"""GLM-4.7-Flash's class."""

from __future__ import annotations

from tests.import_cases.deepseek_v3 import SMALL
from tests.importing import ABSENT, Case

CASES = [
    Case(
        model_type="glm4_moe_lite",
        config=SMALL | {"n_group": 1, "topk_group": 1},
        variations={
            "the rotated part by another name": {"qk_rope_head_dim": ABSENT, "head_dim": 6},
            "layers by a list": {"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]},
            "dense layers between": {
                "first_k_dense_replace": ABSENT,
                "mlp_layer_types": ["sparse", "dense", "sparse", "dense"],
            },
            "queries without a bottleneck": {"q_lora_rank": None},
            "biases of the attention": {"attention_bias": True},
            "tied": {"tie_word_embeddings": True},
        },
    ),
]
