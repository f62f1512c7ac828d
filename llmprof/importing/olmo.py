"""The layer that OLMo 2 and OLMo 3 share: RMSNorms on a block's outputs alone, and over all queries and all keys."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import kv_heads
from llmprof.importing.document import Doc
from llmprof.importing.parts import GLUS


def reordered_layer(c: Config, heads: Read[int], head_dim: Read[int]) -> Doc:
    """What all layers of a stack have, with the norm after the last of them."""
    eps = c.number("rms_norm_eps", default=1e-5)
    bias = c.flag("attention_bias", default=False)
    return {
        "norm": {"kind": "rmsnorm", "placement": "reordered", "eps": eps},
        "attention": {
            "kind": "gqa",
            "n_heads": heads,
            "n_kv_heads": kv_heads(c, heads),
            "head_dim": head_dim,
            "qkv_bias": bias,
            "out_bias": bias,
            "qk_norm": {"kind": "rmsnorm", "eps": eps},
            "qk_norm_over": "all-heads",
        },
        "ffn": {
            "kind": c.choice("hidden_act", of=GLUS, default="silu"),
            "d_ff": c.size("intermediate_size", default=11008),
        },
        "final_norm": {"kind": "rmsnorm", "eps": eps},
    }
