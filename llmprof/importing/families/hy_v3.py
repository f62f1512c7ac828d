"""Hunyuan 3: grouped-query attention with norms of queries and keys, experts by corrected sigmoid scores."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import count_of_layers, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import TRAINED_AND_RUN, experts, joint_width
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.heads import stated_head_dim
from llmprof.importing.layers import dense_or_sparse, layered, unknown_further_tokens
from llmprof.importing.parts import GLUS


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=64)
    head_dim = stated_head_dim(c, hidden, heads, 128)
    count = count_of_layers(c, default=80)
    act = c.choice("hidden_act", of=GLUS, default="silu")
    width = c.size("moe_intermediate_size", default=1536)
    always: Doc = {"bias": c.flag("mlp_bias", default=False)}
    moe = experts(
        act,
        count=c.size("num_experts", "num_local_experts", default=192),
        top_k=c.size("num_experts_per_tok", default=8),
        width=width,
        # The class has no layer without one: at 0 it makes a shared expert of the dense layers' width.
        shared=joint_width(width, c.size("num_shared_experts", default=1)),
        router={
            "scores": "sigmoid",
            "normalise": True,
            "scale": c.number("router_scaling_factor", default=2.826),
            "correction_bias": True,
        },
    )
    moe["shared"] |= always
    dense = {"kind": act, "d_ff": c.size("intermediate_size", default=13312), **always}
    if c.flag("enable_moe_fp32_combine", default=True).value:
        c.remark("experts and the shared one are added up in fp32, which is left out: no size and no contraction")
    eps = c.number("rms_norm_eps", default=1e-5)
    bias = c.flag("attention_bias", default=False)
    unknown_further_tokens(c)
    layers, _ = layered(
        count,
        (dense_or_sparse(c, count, 1, field=False), {"dense": {"ffn": dense}, "sparse": {"ffn": moe}}),
        common={
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=8),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "qk_norm": {"kind": "rmsnorm", "eps": eps},
            },
        },
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=120832),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=131072),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=11158840.0),
        "layers": layers,
    }


FAMILY = Family(document=document, config_class="HYV3Config", source=TRANSFORMERS, idle=TRAINED_AND_RUN)
