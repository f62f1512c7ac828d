"""Apertus: LLaMA's block with norms of each head of queries and keys, and two matrices around xIELU."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c, "head_dim")
    eps = c.number("rms_norm_eps", default=1e-5)
    bias = c.flag("attention_bias", default=False)
    c.must("mlp_bias", False, why="the class has no biases there")
    c.must("qk_norm", True, why="the class has norms of queries and keys in any case")
    c.must("post_norm", False, why="the class has its norms before each block")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=131072),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=65536),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=12000000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
                "qk_norm": {"kind": "rmsnorm", "eps": eps},
            },
            "ffn": {
                "kind": c.choice("hidden_act", of={**MLPS, "xielu": "xielu"}, default="xielu"),
                "d_ff": c.size("intermediate_size", default=14336),
            },
        },
    }


FAMILY = Family(document=document, config_class="ApertusConfig", source=TRANSFORMERS, idle=RUNTIME)
