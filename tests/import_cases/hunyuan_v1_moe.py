"""Hunyuan's class of experts."""

from __future__ import annotations

from tests.import_cases.hunyuan_v1_dense import SMALL
from tests.importing import Case

CASES = [
    Case(
        model_type="hunyuan_v1_moe",
        config=SMALL | {"num_experts": 5, "moe_topk": 2},
        variations={
            "as the release writes it": {
                "moe_topk": [2, 2, 2],
                "moe_intermediate_size": [80, 80, 80],
                "num_shared_expert": [1, 1, 1],
                "moe_layer_num_skipped": 0,
                "use_mixed_mlp_moe": True,
                "use_qk_norm": True,
                "norm_topk_prob": True,
                "n_group": False,
            },
            "multi-head by null": {"num_key_value_heads": None},
            "biases of the attention": {"attention_bias": True},
            "tied": {"tie_word_embeddings": True},
        },
    )
]
