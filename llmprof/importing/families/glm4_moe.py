"""GLM-4.5, 4.5-Air, 4.6 and 4.7: grouped-query attention, half of each head rotated, DeepSeek-V3's experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmprof.importing.config import Config
from llmprof.importing.dense import count_of_layers, kv_heads
from llmprof.importing.document import Doc
from llmprof.importing.experts import TRAINED_AND_RUN, experts, joint_width, sigmoid_router
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.layers import first_dense, further_tokens, layered
from llmprof.importing.parts import GLUS, per_head, rope

ROUTER: Mapping[str, Any] = {"n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.0}


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=96)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=46)
    names = first_dense(c, count, 1)
    act = c.choice("hidden_act", of=GLUS, default="silu")
    width = c.size("moe_intermediate_size", default=1408)
    moe = experts(
        act,
        count=c.size("n_routed_experts", "num_local_experts", default=128),
        top_k=c.size("num_experts_per_tok", default=8),
        width=width,
        shared=joint_width(width, c.optional_size("n_shared_experts", default=1, least=0)),
        router=sigmoid_router(c, ROUTER),
    )
    dense = {"kind": act, "d_ff": c.size("intermediate_size", default=10944)}
    eps = c.number("rms_norm_eps", default=1e-5)
    attention: Doc = {
        "kind": "gqa",
        "n_heads": heads,
        "n_kv_heads": kv_heads(c, heads, default=8),
        "head_dim": head_dim,
        "qkv_bias": c.flag("attention_bias", default=False),
    }
    if c.flag("use_qk_norm", default=False).value:
        attention["qk_norm"] = {"kind": "rmsnorm", "eps": eps}
    layers, called = layered(
        count,
        (names, {"dense": {"ffn": dense}, "sparse": {"ffn": moe}}),
        common={"norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps}, "attention": attention},
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=151552),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=131072),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": rope(c, head_dim, theta=10000.0, partial=0.5),
        "layers": layers,
        **further_tokens(c, "num_nextn_predict_layers", "num_mtp_layers", default=1, called=called, names=names),
    }


FAMILY = Family(document=document, config_class="Glm4MoeConfig", source=TRANSFORMERS, idle=TRAINED_AND_RUN)
