"""K-EXAONE: windows and rotations in all but every fourth layer, DeepSeek-V3's experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import FULL, SLIDING, count_of_layers, every, kv_heads, layer_kinds, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import TRAINED_AND_RUN, experts, joint_width, sigmoid_router
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.layers import dense_or_sparse, layered, told, unknown_further_tokens
from llmprof.importing.parts import GLUS, per_head

ROUTER: Mapping[str, Any] = {"n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 2.5}


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=32)
    act = c.choice("hidden_act", of=GLUS, default="silu")
    width = c.size("moe_intermediate_size", default=1024)
    moe = experts(
        act,
        count=c.size("num_experts", default=64),
        top_k=c.size("num_experts_per_tok", default=8),
        width=width,
        shared=joint_width(width, c.size("num_shared_experts", default=1, least=0)),
        router=sigmoid_router(c, ROUTER),
    )
    dense = {"kind": act, "d_ff": c.size("intermediate_size", default=16384)}
    eps = c.number("rms_norm_eps", default=1e-5)
    unknown_further_tokens(c)
    names = dense_or_sparse(c, count, 1)
    c.must("is_moe_layer", [name == "sparse" for name in names], why="which layers have experts is said twice")
    layers, _ = layered(
        count,
        _seen(c, count),
        (names, {"dense": {"ffn": dense}, "sparse": {"ffn": moe}}),
        common={
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=32),
                "head_dim": head_dim,
                "qk_norm": {"kind": "rmsnorm", "eps": eps},
            },
        },
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=102400),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": layers,
    }


def _seen(c: Config, count: Read[int]) -> tuple[Sequence[str], Mapping[str, Doc]]:
    """Layers with a window rotate, those without do not; where there is no window at all, every layer rotates."""
    window = c.optional_size("sliding_window", default=4096)
    if c.has("layer_types"):
        c.ignore("sliding_window_pattern")
        interval = 1
    else:
        interval = c.size("sliding_window_pattern", default=4).value
    kinds = layer_kinds(
        c,
        count,
        default=every(count, interval),
        why=f"not stated: every {interval}th layer sees all, as the class has it",
    )
    told(c, kinds)
    if window.value is None and (SLIDING in kinds.value or not c.has("layer_types")):
        c.stop("sliding_window", "a window, or layer_types that has none")
    rests: Doc = {} if window.value is None else {"position": {"kind": "none"}}
    return kinds.value, {FULL: rests, SLIDING: {"attention": {"window": window}}}


FAMILY = Family(document=document, config_class="ExaoneMoeConfig", source=TRANSFORMERS, idle=TRAINED_AND_RUN)
