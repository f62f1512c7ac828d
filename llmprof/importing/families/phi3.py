"""Phi 3, 3.5 and 4: LLaMA's block without biases, part of a head rotated, in all layers a sliding window or none."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, one_window
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head, rope


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=3072)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    context = c.size("max_position_embeddings", default=4096)
    for key in ("attention_bias", "mlp_bias", "lm_head_bias"):
        c.must(key, False, why="the class has no biases")
    for key in ("full_attn_mod", "interpolate_factor"):
        c.must(key, 1, why="the class does not read it")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=32064),
        "d_model": hidden,
        "max_context": context,
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "window": one_window(c, context, default=None),
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=8192),
            },
        },
    }


FAMILY = Family(
    document=document,
    config_class="Phi3Config",
    source=TRANSFORMERS,
    idle=RUNTIME | {"original_max_position_embeddings"},
)
