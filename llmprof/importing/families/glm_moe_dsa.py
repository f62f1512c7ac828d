"""GLM-5: DeepSeek-V3.2's layers in other sizes.

GLM-5.2 and later let most layers use the keys that another layer's indexer chose, which the language cannot say yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import count_of_layers
from llmprof.importing.document import Doc
from llmprof.importing.experts import sigmoid_router
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.latent import IDLE, indexed_layers, indexer_of, latent_decoder
from llmprof.importing.layers import dense_or_sparse, each_layer

DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 154880,
    "hidden_size": 6144,
    "intermediate_size": 12288,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 78,
    "num_attention_heads": 64,
    "n_shared_experts": 1,
    "n_routed_experts": 256,
    "routed_scaling_factor": 2.5,
    "kv_lora_rank": 512,
    "q_lora_rank": 2048,
    "qk_rope_head_dim": 64,
    "v_head_dim": 256,
    "qk_nope_head_dim": 192,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "max_position_embeddings": 202752,
    "rms_norm_eps": 1e-5,
    "index_topk": 2048,
    "index_head_dim": 128,
    "index_n_heads": 32,
}


def document(c: Config) -> Doc:
    """The table."""
    count = count_of_layers(c, default=78)
    c.must("moe_layer_freq", 1, why="the class has experts in every layer after the dense ones")
    indexed_layers(c, count)
    _own_indexers(c, count)
    return latent_decoder(
        c,
        DEFAULTS,
        count,
        dense_or_sparse(c, count, 3),
        router=sigmoid_router(c, DEFAULTS),
        top_k=c.size("num_experts_per_tok", default=8),
        also_experts=("num_local_experts", "num_experts"),
        direct_queries=False,
        indexer=indexer_of(c, DEFAULTS),
    )


def _own_indexers(c: Config, count: Read[int]) -> None:
    """Every layer must have an indexer of its own; a list says it, or else a pattern, or how often one comes."""
    why = "every layer has an indexer of its own: one that uses another layer's keys is not in the spec language"
    if c.has("indexer_types"):
        kinds = each_layer(c, "indexer_types", ("full", "shared"), ("full",) * count.value)
        if "shared" in kinds:
            c.refuse("indexer_types", f"full in all layers: {why}")
        c.ignore("index_topk_pattern", "index_topk_freq", "index_skip_topk_offset")
        return
    c.must("index_topk_pattern", None, "F" * count.value, ["full"] * count.value, why=why)
    c.must("index_topk_freq", 0, 1, why=why)
    c.ignore("index_skip_topk_offset")


FAMILY = Family(
    document=document,
    config_class="GlmMoeDsaConfig",
    source=TRANSFORMERS,
    idle=IDLE | {"index_share_for_mtp_iteration", "mlp_bias"},
)
