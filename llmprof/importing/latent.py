"""Decoders of latent attention: DeepSeek-V2's, and what has been made of it since."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import whole_rope
from llmprof.importing.document import LEFT_OUT, Doc, Left
from llmprof.importing.experts import TRAINED_AND_RUN, experts, joint_width
from llmprof.importing.layers import each_layer, further_tokens, layered
from llmprof.importing.parts import GLUS

INNER_EPS = 1e-6
"""Of the norms of the bottlenecks: the classes leave it at the norm's own default, whatever ``rms_norm_eps`` says."""

IDLE = TRAINED_AND_RUN | frozenset(
    {
        "head_dim",  # the class sets it to the rotated part of a head, whatever the file says
        "indexer_rope_interleave",  # which values of a head are rotated together: no size, no kernel of ours
        "qk_head_dim",  # the class sets it to the sum of both parts of a head
        "rope_interleave",
    }
)
"""Fields of these families that decide no shape, no kernel and no byte."""


_CHOOSING = frozenset({"indexed_attention", "deepseek_sparse_attention"})
_INDEXED = (*sorted(_CHOOSING), "full_attention")


def latent_decoder(
    c: Config,
    d: Mapping[str, Any],
    count: Read[int],
    names: Sequence[str],
    *,
    router: Doc,
    top_k: Read[int],
    also_experts: Sequence[str] = (),
    rope_dim_keys: Sequence[str] = ("qk_rope_head_dim",),
    direct_queries: bool = True,
    indexer: Doc | None = None,
    position: Doc | None = None,
    scale: Read[float] | Read[Left] | None = None,
    mlp_bias: Read[bool] | None = None,
) -> Doc:
    """The document of a decoder whose layers are ``dense`` or ``sparse`` as `names` says; `d` are the class's defaults.

    `direct_queries`: ``q_lora_rank`` may be null. `also_experts` and `rope_dim_keys` are spellings of
    ``n_routed_experts`` and of the rotated part. `position` and `scale` stand in for those of
    DeepSeek. `mlp_bias` is that of the feed-forwards that run for every token.
    """
    heads = c.size("num_attention_heads", default=d["num_attention_heads"])
    _no_heads_of_keys(c, heads)
    nope = c.size("qk_nope_head_dim", default=d["qk_nope_head_dim"])
    rope_dim = c.size(*rope_dim_keys, default=d["qk_rope_head_dim"])
    act = c.choice("hidden_act", of=GLUS, default="silu")
    width = c.size("moe_intermediate_size", default=d["moe_intermediate_size"])
    shared = joint_width(width, c.optional_size("n_shared_experts", default=d["n_shared_experts"], least=0))
    bias: Doc = {} if mlp_bias is None else {"bias": mlp_bias}
    moe = experts(
        act,
        count=c.size("n_routed_experts", *also_experts, default=d["n_routed_experts"]),
        top_k=top_k,
        width=width,
        shared=shared,
        router=router,
    )
    if "shared" in moe:
        moe["shared"] |= bias
    dense = {"kind": act, "d_ff": c.size("intermediate_size", default=d["intermediate_size"]), **bias}
    attention: Doc = {
        "kind": "mla",
        "n_heads": heads,
        "q_rank": _query_rank(c, d["q_lora_rank"], direct_queries),
        "kv_rank": c.size("kv_lora_rank", default=d["kv_lora_rank"]),
        "nope_dim": nope,
        "rope_dim": rope_dim,
        "value_dim": c.size("v_head_dim", default=d["v_head_dim"]),
        "norm": {"kind": "rmsnorm", "eps": INNER_EPS},
        "bias": c.flag("attention_bias", default=False),
        "scale": scale or softmax_scale(c, nope, rope_dim),
    }
    if indexer is not None:
        attention["indexer"] = indexer
    layers, called = layered(
        count,
        (names, {"dense": {"ffn": dense}, "sparse": {"ffn": moe}}),
        common={
            "norm": {
                "kind": "rmsnorm",
                "placement": "pre",
                "eps": c.number("rms_norm_eps", default=d["rms_norm_eps"]),
            },
            "attention": attention,
        },
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=d["vocab_size"]),
        "d_model": c.size("hidden_size", default=d["hidden_size"]),
        "max_context": c.size("max_position_embeddings", default=d["max_position_embeddings"]),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": position or whole_rope(c, rope_dim, theta=10000.0),
        "layers": layers,
        **further_tokens(
            c,
            "num_nextn_predict_layers",
            "num_mtp_layers",
            default=d.get("num_nextn_predict_layers", 0),
            called=called,
            names=names,
        ),
    }


def indexer_of(c: Config, d: Mapping[str, Any]) -> Doc:
    """DeepSeek-V3.2's choice of the keys that a query attends to."""
    return {
        "n_heads": c.size("index_n_heads", default=d["index_n_heads"]),
        "head_dim": c.size("index_head_dim", default=d["index_head_dim"]),
        "top_k": c.size("index_topk", default=d["index_topk"]),
    }


def indexed_layers(c: Config, count: Read[int]) -> None:
    """All layers must have an indexer, as ``layer_types`` says where it is there; the older word is taken too."""
    kinds = each_layer(c, "layer_types", _INDEXED, ("indexed_attention",) * count.value)
    if not set(kinds) <= _CHOOSING:
        c.refuse("layer_types", "indexed_attention in all layers, as the class has it")


def softmax_scale(c: Config, nope: Read[int], rope_dim: Read[int]) -> Read[float] | Read[Left]:
    """What scores are multiplied by, where a rescaled rotation has an ``mscale_all_dim``; else the language's default.

    (nope + rope)^-0.5 (0.1 mscale_all_dim ln(factor) + 1)^2, as `yarn_apply_mscale` of transformers 5.23.0 and
    DeepSeek's own modeling file have it (YaRN, https://arxiv.org/abs/2309.00071, section 3.4, recalled).
    """
    said = c.below("rope_scaling") if c.raw("rope_scaling") else c.below("rope_parameters")
    kind = said.raw("rope_type") or said.raw("type")
    if kind in (None, "default") or not said.raw("mscale_all_dim"):
        return Read(LEFT_OUT)
    return scaled(nope, rope_dim, said.number("mscale_all_dim"), said.number("factor"))


def scaled(nope: Read[int], rope_dim: Read[int], mscale: Read[float], factor: Read[float]) -> Read[float]:
    """The scale of a rotation that is stretched by `factor`; one that is not stretched leaves it alone."""
    width = nope.value + rope_dim.value
    grown = 0.1 * mscale.value * math.log(factor.value) + 1.0 if factor.value > 1 else 1.0
    return inferred(
        width**-0.5 * grown * grown,
        f"{width} ** -0.5 * (0.1 * {mscale.value:g} * ln({factor.value:g}) + 1) ** 2, for the rescaled rotation",
        nope,
        rope_dim,
        mscale,
        factor,
    )


def _no_heads_of_keys(c: Config, heads: Read[int]) -> None:
    """``num_key_value_heads`` says nothing here, as all heads read one latent; it must be the number of heads."""
    said = c.optional_size("num_key_value_heads", default=None)
    if said.keys and said.value not in (None, heads.value):
        c.wrong("num_key_value_heads", f"{heads.value}, the number of heads: latent attention has no other")


def _query_rank(c: Config, default: int, direct: bool) -> Read[int] | Read[None]:
    return c.optional_size("q_lora_rank", default=default) if direct else c.size("q_lora_rank", default=default)
