"""Qwen 3: Qwen 2's block with an RMSNorm of each head's queries and keys in place of biases."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, count_of_layers, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS
from llmprof.importing.qwen import windowed_above


def document(c: Config) -> Doc:
    """The table."""
    heads = c.size("num_attention_heads", default=32)
    head_dim = c.size("head_dim", default=128)
    eps = c.number("rms_norm_eps", default=1e-6)
    bias = c.flag("attention_bias", default=False)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=151936),
        "d_model": c.size("hidden_size", default=4096),
        "max_context": c.size("max_position_embeddings", default=32768),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": windowed_above(
            c,
            count_of_layers(c, default=32),
            {
                "norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps},
                "attention": {
                    "kind": "gqa",
                    "n_heads": heads,
                    "n_kv_heads": kv_heads(c, heads, default=32),
                    "head_dim": head_dim,
                    "qkv_bias": bias,
                    "out_bias": bias,
                    "qk_norm": {"kind": "rmsnorm", "eps": eps},
                },
                "ffn": {
                    "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                    "d_ff": c.size("intermediate_size", default=22016),
                },
            },
        ),
    }


FAMILY = Family(document=document, config_class="Qwen3Config", source=TRANSFORMERS, idle=RUNTIME)
