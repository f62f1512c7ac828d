"""Code World Model: LLaMA's block without biases of the attention; one layer without a window to three with one."""

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
    stated_head_dim,
    whole_rope,
)
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=6144)
    heads = c.size("num_attention_heads", default=48)
    head_dim = stated_head_dim(c, hidden, heads, default=128)
    count = count_of_layers(c, default=64)
    kinds = layer_kinds(
        c,
        count,
        default=[SLIDING if i % 4 else FULL for i in range(count.value)],
        why="not stated: the first of every four layers sees all tokens, as the family has it",
    )
    c.must("attention_bias", False, why="the class has no biases of the attention")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=128256),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=131072),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=1000000.0),
        "layers": by_window(
            c,
            count,
            kinds,
            c.size("sliding_window", default=8192),
            {
                "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
                "attention": {
                    "kind": "gqa",
                    "n_heads": heads,
                    "n_kv_heads": kv_heads(c, heads, default=8),
                    "head_dim": head_dim,
                },
                "ffn": {
                    "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                    "d_ff": c.size("intermediate_size", default=21504),
                    "bias": c.flag("mlp_bias", default=False),
                },
            },
        ),
    }


FAMILY = Family(document=document, config_class="CwmConfig", source=TRANSFORMERS, idle=RUNTIME)
