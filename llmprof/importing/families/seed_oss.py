"""Seed-OSS: LLaMA's block with biases of queries, keys and values."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads, stated_head_dim, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=80)
    head_dim = stated_head_dim(c, hidden, heads, default=128)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=155136),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=524288),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=64),
            "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-6)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=8),
                "head_dim": head_dim,
                "qkv_bias": c.flag("attention_bias", default=True),
                "out_bias": c.flag("attention_out_bias", default=False),
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=27648),
                "bias": c.flag("mlp_bias", default=False),
            },
        },
    }


FAMILY = Family(document=document, config_class="SeedOssConfig", source=TRANSFORMERS, idle=RUNTIME)
