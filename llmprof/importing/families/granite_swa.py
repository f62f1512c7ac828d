"""Granite with windows: Granite's factors, a sink of each head, and rotations of a base of their own in each layer."""

from __future__ import annotations

import math

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import (
    FULL,
    RUNTIME,
    SLIDING,
    by_group,
    count_of_layers,
    kv_heads,
    layer_kinds,
    optional_scale,
    scaled_embedding,
    whole_rope,
)
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2560)
    heads = c.size("num_attention_heads", default=20)
    head_dim = per_head(hidden, heads, c, "head_dim")
    bias = c.flag("attention_bias", default=False)
    divisor = c.number("logits_scaling", default=1.0)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=100352),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=8192),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "embedding": scaled_embedding(c.number("embedding_multiplier", default=1.0)),
        "layers": _layers(
            c,
            {
                "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
                "residual": {"kind": "plain", "scale": c.number("residual_multiplier", default=1.0)},
                "attention": {
                    "kind": "gqa",
                    "n_heads": heads,
                    "n_kv_heads": kv_heads(c, heads, default=4),
                    "head_dim": head_dim,
                    "qkv_bias": bias,
                    "out_bias": bias,
                    "sinks": True,
                    "scale": c.number("attention_multiplier", default=1.0),
                },
                "ffn": {
                    "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                    "d_ff": c.size("intermediate_size", default=8192),
                    "bias": c.flag("mlp_bias", default=False),
                },
            },
        ),
        "head": {
            "kind": "lm",
            "output_scale": optional_scale(
                inferred(1 / divisor.value, f"logits are divided by logits_scaling = {divisor.value:g}", divisor)
            ),
        },
    }


def _layers(c: Config, common: Doc) -> Doc:
    """``layer_types`` says which layers have the window, ``layer_rope_theta`` what base each has: 0 rotates nothing."""
    count = count_of_layers(c, default=24)
    kinds = layer_kinds(
        c,
        count,
        default=[SLIDING if i % 4 else FULL for i in range(count.value)],
        why="not stated: the first of every four layers sees all tokens, as the family has it",
    )
    window = c.optional_size("sliding_window", default=128)
    if SLIDING in kinds.value and window.value is None:
        c.stop("sliding_window", f"a window, for the layers of {SLIDING}")
    thetas = _thetas(c, count)
    bases = {theta: number for number, theta in enumerate(dict.fromkeys(theta for theta in thetas if theta))}
    groups: dict[str, Doc] = {}
    names = []
    for kind, theta in zip(kinds.value, thetas, strict=True):
        group: Doc = {"attention": {"window": window}} if kind == SLIDING else {}
        name = "local" if kind == SLIDING else "global"
        if theta == 0:
            name, group = name + "-nope", {**group, "position": {"kind": "none"}}
        elif theta is not None:
            at = Read(theta, ("layer_rope_theta",))
            name += f"-{bases[theta]}" if len(bases) > 1 else ""
            group = {**group, "position": {"kind": "rope", "theta": at}}
        groups[name] = group
        names.append(name)
    return by_group(count, kinds, names, groups, common)


def _thetas(c: Config, count: Read[int]) -> list[float | None]:
    """The base of each layer; None is the one of all."""
    listed = c.raw("layer_rope_theta")
    if listed is None:
        return [None] * count.value
    if (
        not isinstance(listed, list)
        or len(listed) != count.value
        or not all(type(theta) in (int, float) and 0 <= theta < math.inf for theta in listed)
    ):
        c.stop("layer_rope_theta", f"{count.value} numbers from 0, one for each layer")
    return [float(theta) for theta in listed]


FAMILY = Family(document=document, config_class="GraniteSWAConfig", source=TRANSFORMERS, idle=RUNTIME)
