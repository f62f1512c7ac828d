"""Nemotron 3 and 4 and Minitron: LayerNorms of weight + 1, squared ReLU, half of each head rotated."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head, rope


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=6144)
    heads = c.size("num_attention_heads", default=48)
    head_dim = per_head(hidden, heads, c, "head_dim")
    bias = c.flag("attention_bias", default=False)
    for key in ("rope_percent", "rotary_percent"):
        c.must(key, c.raw("partial_rotary_factor") or 0.5, why="the class reads partial_rotary_factor")
    c.must("kv_channels", head_dim.value, why="the class reads head_dim")
    c.remark("the LayerNorms multiply by weight + 1; the 1 is taken to be folded into the weights")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=256000),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=4096),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": rope(c, head_dim, theta=10000.0, partial=0.5),
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "norm": {
                "kind": "layernorm",
                "placement": "pre",
                "eps": c.number("norm_eps", "layer_norm_eps", default=1e-5),
            },
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
                "d_ff": c.size("intermediate_size", default=24576),
                "bias": c.flag("mlp_bias", default=False),
            },
        },
    }


FAMILY = Family(document=document, config_class="NemotronConfig", source=TRANSFORMERS, idle=RUNTIME)
