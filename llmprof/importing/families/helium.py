"""Helium: LLaMA's block, rotations of neighbours, no bias on the way out of the heads."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=2560)
    heads = c.size("num_attention_heads", default=20)
    head_dim = c.size("head_dim", default=128)
    if heads.value * head_dim.value != hidden.value:
        c.refuse("head_dim", f"heads of {hidden.value:,} values in all: the class has a square matrix behind them")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=48000),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=4096),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=100000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=24),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-8)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": c.size("num_key_value_heads", default=20),
                "head_dim": head_dim,
                "qkv_bias": c.flag("attention_bias", default=False),
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=7040),
                "bias": c.flag("mlp_bias", default=False),
            },
        },
    }


FAMILY = Family(document=document, config_class="HeliumConfig", source=TRANSFORMERS, idle=RUNTIME)
