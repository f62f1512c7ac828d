"""DeepSeek-V3, R1, V3.1, Moonlight, Kimi K2: latent attention, experts chosen from groups by corrected sigmoid scores.

The layers that predict further tokens are in the release and in the language, and not in transformers' model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmprof.importing.config import Config
from llmprof.importing.dense import count_of_layers
from llmprof.importing.document import Doc
from llmprof.importing.experts import sigmoid_router
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.latent import IDLE, latent_decoder
from llmprof.importing.layers import first_dense

DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "n_shared_experts": 1,
    "n_routed_experts": 256,
    "routed_scaling_factor": 2.5,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "qk_nope_head_dim": 128,
    "n_group": 8,
    "topk_group": 4,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "num_nextn_predict_layers": 1,
}


def document(c: Config) -> Doc:
    """The table."""
    count = count_of_layers(c, default=61)
    c.must("moe_layer_freq", 1, why="the class has experts in every layer after the dense ones")
    return latent_decoder(
        c,
        DEFAULTS,
        count,
        first_dense(c, count, 3),
        router=sigmoid_router(c, DEFAULTS),
        top_k=c.size("num_experts_per_tok", default=8),
        also_experts=("num_local_experts",),
    )


FAMILY = Family(document=document, config_class="DeepseekV3Config", source=TRANSFORMERS, idle=IDLE)
