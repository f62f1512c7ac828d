"""Qwen1.5-MoE and Qwen2-57B-A14B: Qwen2's layers with experts beside a shared one under a gate of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import FULL, RUNTIME, SLIDING, count_of_layers, kv_heads, layer_kinds, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.experts import experts
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.layers import every_so_often, layered
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2048)
    heads = c.size("num_attention_heads", default=16)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=24)
    act = c.choice("hidden_act", of=GLUS, default="silu")
    n_experts = c.size("num_experts", default=60, least=0)
    moe = experts(
        act,
        count=n_experts,
        top_k=c.size("num_experts_per_tok", default=4),
        width=c.size("moe_intermediate_size", default=1408),
        shared=c.size("shared_expert_intermediate_size", default=5632),
        router={"shared_gate": True, "normalise": c.flag("norm_topk_prob", default=False)},
    )
    dense = {"kind": act, "d_ff": c.size("intermediate_size", default=5632)}
    layers, _ = layered(
        count,
        _windows(c, count),
        (every_so_often(c, count, n_experts), {"dense": {"ffn": dense}, "sparse": {"ffn": moe}}),
        common={
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-6)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=16),
                "head_dim": head_dim,
                "qkv_bias": c.flag("qkv_bias", default=True),
            },
        },
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=151936),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=32768),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": layers,
    }


def _windows(c: Config, count: Read[int]) -> tuple[Sequence[str], Mapping[str, Doc]]:
    """Which layers have a window: none in the releases, and where they are not listed versions of the class differ."""
    used = c.flag("use_sliding_window", default=False)
    window = c.optional_size("sliding_window", default=4096, least=0)
    c.ignore("max_window_layers")
    if used.value and not c.has("layer_types"):
        c.refuse(
            "use_sliding_window",
            "false, or layer_types beside it: versions of the class differ in which layers have it",
        )
    kinds = layer_kinds(c, count, default=[FULL] * count.value, why="not stated: no layer has a window")
    if SLIDING in kinds.value and not (used.value and window.value):
        c.stop("layer_types", f"no {SLIDING} without use_sliding_window and a sliding_window")
    return kinds.value, {FULL: {}, SLIDING: {"attention": {"window": window}}}


FAMILY = Family(document=document, config_class="Qwen2MoeConfig", source=TRANSFORMERS, idle=RUNTIME)
