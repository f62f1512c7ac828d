"""Solar Open: experts in every layer, chosen as DeepSeek-V3's, beside a shared one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmprof.importing.config import Config
from llmprof.importing.dense import kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import TRAINED_AND_RUN, experts, joint_width, sigmoid_router
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.heads import stated_head_dim
from llmprof.importing.layers import unknown_further_tokens
from llmprof.importing.parts import GLUS

ROUTER: Mapping[str, Any] = {"n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.0}


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=64)
    head_dim = stated_head_dim(c, hidden, heads, 128)
    width = c.size("moe_intermediate_size", default=1280)
    c.must("first_k_dense_replace", 0, why="the class has experts in every layer")
    c.must("moe_layer_freq", 1, why="the class has experts in every layer")
    c.must("use_qk_norm", False, why="the class does not normalise queries and keys")
    unknown_further_tokens(c)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=196608),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=131072),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=1000000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=48),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=8),
                "head_dim": head_dim,
                "qkv_bias": c.flag("attention_bias", default=False),
            },
            "ffn": experts(
                c.choice("hidden_act", of=GLUS, default="silu"),
                count=c.size("n_routed_experts", "num_local_experts", default=128),
                top_k=c.size("num_experts_per_tok", default=8),
                width=width,
                shared=joint_width(width, c.size("n_shared_experts", default=1, least=0)),
                router=sigmoid_router(c, ROUTER),
            ),
        },
    }


FAMILY = Family(
    document=document,
    config_class="SolarOpenConfig",
    source=TRANSFORMERS,
    idle=TRAINED_AND_RUN | {"intermediate_size"},  # of dense layers, of which there are none
)
