"""GLM-4.7-Flash: DeepSeek-V3's layers, one group of experts, one dense layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmprof.importing.config import Config
from llmprof.importing.dense import count_of_layers
from llmprof.importing.document import Doc
from llmprof.importing.experts import sigmoid_router
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.latent import IDLE, latent_decoder
from llmprof.importing.layers import dense_or_sparse

DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 154880,
    "hidden_size": 2048,
    "intermediate_size": 10240,
    "moe_intermediate_size": 1536,
    "num_hidden_layers": 47,
    "num_attention_heads": 20,
    "n_shared_experts": 1,
    "n_routed_experts": 64,
    "routed_scaling_factor": 1.8,
    "kv_lora_rank": 512,
    "q_lora_rank": 768,
    "qk_rope_head_dim": 64,
    "v_head_dim": 256,
    "qk_nope_head_dim": 192,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "max_position_embeddings": 202752,
    "rms_norm_eps": 1e-5,
}


def document(c: Config) -> Doc:
    """The table."""
    count = count_of_layers(c, default=47)
    c.must("moe_layer_freq", 1, why="the class has experts in every layer after the dense one")
    return latent_decoder(
        c,
        DEFAULTS,
        count,
        dense_or_sparse(c, count, 1, field=False),
        router=sigmoid_router(c, DEFAULTS),
        top_k=c.size("num_experts_per_tok", default=4),
        also_experts=("num_local_experts",),
        rope_dim_keys=("qk_rope_head_dim", "head_dim"),
    )


FAMILY = Family(document=document, config_class="Glm4MoeLiteConfig", source=TRANSFORMERS, idle=IDLE - {"head_dim"})
