"""Gemma 1: pre-norm with 1 + weight, GeGLU with the tanh approximation, scaled and tied embeddings."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.gemma import causal, offset_norm, scaled_embedding
from llmprof.importing.parts import GLUS

ACTIVATIONS = {**GLUS, "gelu": "geglu-tanh"}
"""The first releases say ``gelu`` and mean its tanh approximation; the class replaces it."""


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=3072)
    head_dim = c.size("head_dim", default=256)
    bias = c.flag("attention_bias", default=False)
    causal(c)
    c.must("hidden_activation", None, "gelu_pytorch_tanh", why="the class reads hidden_act")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=256000),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=8192),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": whole_rope(c, head_dim, theta=10000.0),
        "embedding": scaled_embedding(hidden),
        "layers": {
            "count": c.size("num_hidden_layers", default=28),
            "norm": offset_norm(c.number("rms_norm_eps", default=1e-6), "pre"),
            "attention": {
                "kind": "gqa",
                "n_heads": c.size("num_attention_heads", default=16),
                "n_kv_heads": c.size("num_key_value_heads", default=16),
                "head_dim": head_dim,
                "qkv_bias": bias,
                "out_bias": bias,
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=ACTIVATIONS, default="gelu_pytorch_tanh"),
                "d_ff": c.size("intermediate_size", default=24576),
            },
        },
    }


FAMILY = Family(document=document, config_class="GemmaConfig", source=TRANSFORMERS, idle=RUNTIME)
