"""dots.llm1: multi-head attention with norms of queries and keys, DeepSeek-V3's experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmprof.importing.config import Config
from llmprof.importing.dense import FULL, SLIDING, count_of_layers, kv_heads, layer_kinds, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import TRAINED_AND_RUN, experts, joint_width, sigmoid_router
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.layers import first_dense, layered, told
from llmprof.importing.parts import GLUS, per_head

ROUTER: Mapping[str, Any] = {"n_group": 1, "topk_group": 1, "norm_topk_prob": False, "routed_scaling_factor": 1.0}


def document(c: Config) -> Doc:
    """The table. The class has no number of experts of its own: a config must say it."""
    hidden = c.size("hidden_size", default=4608)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=62)
    act = c.choice("hidden_act", of=GLUS, default="silu")
    width = c.size("moe_intermediate_size", default=1408)
    c.must("moe_layer_freq", 1, why="the class has experts in every layer after the dense ones")
    moe = experts(
        act,
        count=c.size("n_routed_experts", "num_local_experts"),
        top_k=c.size("num_experts_per_tok"),
        width=width,
        shared=joint_width(width, c.size("n_shared_experts", least=0)),
        router=sigmoid_router(c, ROUTER, called=("sigmoid", "noaux_tc")),
    )
    dense = {"kind": act, "d_ff": c.size("intermediate_size", default=10944)}
    eps = c.number("rms_norm_eps", default=1e-6)
    bias = c.flag("attention_bias", default=False)
    window = c.optional_size("sliding_window", default=4096)
    first = c.size("max_window_layers", default=62, least=0)
    kinds = layer_kinds(
        c,
        count,
        default=[SLIDING if window.value and i >= first.value else FULL for i in range(count.value)],
        why=f"not stated: the layers from max_window_layers = {first.value} on have the window, as the family has it",
    )
    windowed = SLIDING in kinds.value
    c.must("use_sliding_window", windowed, None, why="the class does as layer_types and sliding_window say")
    if windowed:
        told(c, kinds)
    if windowed and window.value is None:
        c.stop("sliding_window", f"a window, for the layers of {SLIDING}")
    layers, _ = layered(
        count,
        (kinds.value, {FULL: {}, SLIDING: {"attention": {"window": window}}}),
        (first_dense(c, count, 0), {"dense": {"ffn": dense}, "sparse": {"ffn": moe}}),
        common={
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=32),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "qk_norm": {"kind": "rmsnorm", "eps": eps},
            },
        },
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=152064),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": layers,
    }


FAMILY = Family(document=document, config_class="Dots1Config", source=TRANSFORMERS, idle=TRAINED_AND_RUN)
