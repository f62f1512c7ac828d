"""What the tables of GLM 4 and of its successor of April 2025 have in common: all but where norms stand."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.parts import GLUS, rope


def decoder(c: Config, placement: str) -> Doc:
    """The table of both classes, with norms placed as `placement` says."""
    heads = c.size("num_attention_heads", default=32)
    head_dim = c.size("head_dim", default=128)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=151552),
        "d_model": c.size("hidden_size", default=4096),
        "max_context": c.size("max_position_embeddings", default=131072),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": rope(c, head_dim, theta=10000.0, partial=0.5),
        "layers": {
            "count": c.size("num_hidden_layers", default=40),
            "norm": {"kind": "rmsnorm", "placement": placement, "eps": c.number("rms_norm_eps", default=1.5625e-7)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": c.size("num_key_value_heads", default=2),
                "head_dim": head_dim,
                "qkv_bias": c.flag("attention_bias", default=True),
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=13696),
            },
        },
    }
