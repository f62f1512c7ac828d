"""The text tower of Qwen3-Omni."""

from __future__ import annotations

from tests.import_cases import qwen3_vl_moe_text
from tests.importing import Case

CASES = [
    Case(
        model_type="qwen3_omni_moe_text",
        config=qwen3_vl_moe_text.SMALL,
        head="tower",
        variations={
            "biases of the attention": {"attention_bias": True},
            "tied": {"tie_word_embeddings": True},
            "experts in some": {"decoder_sparse_step": 2},
            "plain layers": {"mlp_only_layers": [1]},
            "weights as they come": {"norm_topk_prob": False},
            "no experts": {"num_experts": 0},
        },
    )
]
