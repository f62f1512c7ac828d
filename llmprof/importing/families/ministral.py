"""Ministral 8B of 2024: Mistral's block, with a window in all layers or in those of ``layer_types``."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import (
    FULL,
    RUNTIME,
    SLIDING,
    by_window,
    count_of_layers,
    kv_heads,
    layer_kinds,
    whole_rope,
)
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    count = count_of_layers(c, default=32)
    window = c.optional_size("sliding_window", default=4096)
    kinds = layer_kinds(
        c,
        count,
        default=[FULL if window.value is None else SLIDING] * count.value,
        why="not stated: all layers have the window, as the family has it",
    )
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=32000),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=131072),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": by_window(
            c,
            count,
            kinds,
            window,
            {
                "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-6)},
                "attention": {
                    "kind": "gqa",
                    "n_heads": heads,
                    "n_kv_heads": kv_heads(c, heads, default=8),
                    "head_dim": head_dim,
                },
                "ffn": {
                    "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                    "d_ff": c.size("intermediate_size", default=14336),
                },
            },
        ),
    }


FAMILY = Family(document=document, config_class="MinistralConfig", source=TRANSFORMERS, idle=RUNTIME)
