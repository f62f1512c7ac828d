"""The text tower of Qwen3-VL: Qwen3's block without windows, rotated by one index where there are no images."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.dense import RUNTIME, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS


def document(c: Config) -> Doc:
    """The table."""
    heads = c.size("num_attention_heads", default=32)
    head_dim = c.size("head_dim", default=128)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=151936),
        "d_model": c.size("hidden_size", default=4096),
        "max_context": c.size("max_position_embeddings", default=128_000),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=500_000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=32),
            **block(c, heads, kv_heads(c, heads, default=32), head_dim),
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=22016),
            },
        },
    }


def block(c: Config, heads: Read[int], shared: Read[int], head_dim: Read[int]) -> Doc:
    """Norm and attention of all layers, in Qwen3-VL and in Qwen3-VL-MoE."""
    eps = c.number("rms_norm_eps", default=1e-6)
    bias = c.flag("attention_bias", default=False)
    c.must("use_sliding_window", False, why="the class has no windows")
    return {
        "norm": {"kind": "rmsnorm", "placement": "pre", "eps": eps},
        "attention": {
            "kind": "gqa",
            "n_heads": heads,
            "n_kv_heads": shared,
            "head_dim": head_dim,
            "qkv_bias": bias,
            "out_bias": bias,
            "qk_norm": {"kind": "rmsnorm", "eps": eps},
        },
    }


FAMILY = Family(document=document, config_class="Qwen3VLTextConfig", source=TRANSFORMERS, idle=RUNTIME)
