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
    ),
    # By the name that the model's own code has: attention of 6 and 2 heads of 16 and its two norms, norms of two rows,
    # 5 experts and a shared one of 80, a router.
    Case(
        model_type="hunyuan",
        config=SMALL | {"num_experts": 5, "moe_topk": 2, "use_cla": False, "cla_share_factor": 2},
        params={
            "as it stands": 2 * 300 * 48
            + 48
            + 3 * (2 * 48 * 96 + 2 * 48 * 32 + 2 * 16 + 2 * 48 + 6 * 3 * 48 * 80 + 5 * 48)
        },
    ),
]
