"""RefinedWeb and RefinedWebModel, of which transformers has no class: counts by hand.

Width 64, 8 heads of 8, feed-forwards of 256, two layers, 100 tokens: 6,400 of the table and 128 of the final norm.
"""

from __future__ import annotations

from tests.importing import Case

SMALL = {"vocab_size": 100, "hidden_size": 64, "n_layer": 2, "n_head": 8, "layer_norm_epsilon": 1e-5}
AROUND = 100 * 64 + 128
FFN = 2 * 64 * 256

CASES = [
    Case(
        model_type="RefinedWeb",
        config={**SMALL, "n_head_kv": 2, "bias": False, "alibi": False, "parallel_attn": True},
        # q and o 2 x 4,096, k and v 2 x 64 x 16, two norms
        params={"as it stands": AROUND + 2 * (2 * 4096 + 2 * 64 * 16 + FFN + 256)},
    ),
    Case(
        model_type="RefinedWebModel",
        config={**SMALL, "multi_query": True, "bias": False, "alibi": False, "parallel_attn": True},
        variations={"as RW": {"multi_query": False, "bias": True, "alibi": True, "parallel_attn": False}},
        params={
            # q and o, one head of k and of v, one norm
            "as it stands": AROUND + 2 * (2 * 4096 + 2 * 64 * 8 + FFN + 128),
            # q, k, v and o with biases, two norms
            "as RW": AROUND + 2 * (4 * (4096 + 64) + FFN + 256 + 64 + 256),
        },
    ),
]
