"""DeepSeek-V3.2's class."""

from __future__ import annotations

from tests.import_cases.deepseek_v3 import SMALL
from tests.importing import ABSENT, Case

CASES = [
    Case(
        model_type="deepseek_v32",
        config=SMALL | {"index_n_heads": 3, "index_head_dim": 14, "index_topk": 16},
        variations={
            "layers by a list": {"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]},
            "layers by a list alone": {
                "first_k_dense_replace": ABSENT,
                "mlp_layer_types": ["sparse", "dense", "sparse", "dense"],
            },
            "kinds of attention in older words": {"layer_types": ["deepseek_sparse_attention"] * 4},
            "biases of the attention": {"attention_bias": True},
            "no shared expert": {"n_shared_experts": 0},
            "tied": {"tie_word_embeddings": True},
        },
    ),
]
