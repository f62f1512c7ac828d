"""DeepSeek-V3.2: V3 with an indexer in every layer, which chooses the keys that a query attends to."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import count_of_layers
from llmprof.importing.document import Doc
from llmprof.importing.experts import sigmoid_router
from llmprof.importing.families import deepseek_v3
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.latent import IDLE, indexed_layers, indexer_of, latent_decoder
from llmprof.importing.layers import dense_or_sparse

DEFAULTS = {
    **deepseek_v3.DEFAULTS,
    "max_position_embeddings": 163840,
    "index_topk": 2048,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "num_nextn_predict_layers": 0,
}


def document(c: Config) -> Doc:
    """The table."""
    count = count_of_layers(c, default=61)
    c.must("moe_layer_freq", 1, why="the class has experts in every layer after the dense ones")
    indexed_layers(c, count)
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


FAMILY = Family(document=document, config_class="DeepseekV32Config", source=TRANSFORMERS, idle=IDLE | {"mlp_bias"})
