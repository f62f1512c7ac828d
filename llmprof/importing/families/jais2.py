"""Jais 2: LayerNorms, an ungated feed-forward, biases everywhere."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=3328)
    heads = c.size("num_attention_heads", default=26)
    head_dim = per_head(hidden, heads, c, "head_dim")
    bias = c.flag("attention_bias", default=True)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=150272),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=8192),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "norm": {"kind": "layernorm", "placement": "pre", "eps": c.number("layer_norm_eps", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=MLPS, default="relu2"),
                "d_ff": c.size("intermediate_size", default=26624),
                "bias": c.flag("mlp_bias", default=True),
            },
        },
    }


FAMILY = Family(document=document, config_class="Jais2Config", source=TRANSFORMERS, idle=RUNTIME)
