"""SmolLM3: LLaMA's block; every fourth layer rotates nothing, and may have a window."""

from __future__ import annotations

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.dense import (
    FULL,
    RUNTIME,
    SLIDING,
    by_group,
    count_of_layers,
    interval,
    kv_heads,
    layer_kinds,
    whole_rope,
)
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head
from llmprof.importing.qwen import used_window


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2048)
    heads = c.size("num_attention_heads", default=16)
    head_dim = per_head(hidden, heads, c, "head_dim")
    bias = c.flag("attention_bias", default=False)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=128256),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=32768),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, head_dim, theta=2000000.0),
        "layers": _layers(
            c,
            {
                "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-6)},
                "attention": {
                    "kind": "gqa",
                    "n_heads": heads,
                    "n_kv_heads": kv_heads(c, heads, default=4),
                    "head_dim": head_dim,
                    "qkv_bias": bias,
                    "out_bias": bias,
                },
                "ffn": {
                    "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                    "d_ff": c.size("intermediate_size", default=11008),
                    "bias": c.flag("mlp_bias", default=False),
                },
            },
        ),
    }


def _layers(c: Config, common: Doc) -> Doc:
    """``no_rope_layers`` has a 1 for each layer that rotates; a window, where it is used, is that of the others."""
    count = count_of_layers(c, default=36)
    step = interval(c, "no_rope_layer_interval", default=4, listed="no_rope_layers")
    rotates = c.sizes(
        "no_rope_layers",
        default=inferred(
            [int((i + 1) % step != 0) for i in range(count.value)],
            f"not stated: every {step} layers one rotates nothing, by no_rope_layer_interval",
        ),
    )
    if len(rotates.value) != count.value:
        c.stop("no_rope_layers", f"{count.value} numbers, one for each layer")
    used = c.flag("use_sliding_window", default=False)
    window = used_window(c, used, default=None)
    slides = window.value is not None
    kinds = layer_kinds(
        c,
        count,
        default=[SLIDING if slides and not rotate else FULL for rotate in rotates.value],
        why="not stated: a window is that of the layers that rotate nothing, as the family has it",
    )
    if SLIDING in kinds.value and not slides:
        c.stop("use_sliding_window", f"true and a sliding_window, for the layers of {SLIDING}")
    nope: Doc = {"position": {"kind": "none"}}
    local: Doc = {"attention": {"window": window}}
    groups: dict[str, Doc] = {"rope": {}, "nope": nope, "local": local, "local-nope": {**local, **nope}}
    names = [
        ("local" if rotate else "local-nope") if kind == SLIDING else ("rope" if rotate else "nope")
        for rotate, kind in zip(rotates.value, kinds.value, strict=True)
    ]
    return by_group(count, Read(kinds.value, (*rotates.keys, *kinds.keys), rotates.note), names, groups, common)


FAMILY = Family(
    document=document, config_class="SmolLM3Config", source=TRANSFORMERS, idle=RUNTIME | {"max_window_layers"}
)
