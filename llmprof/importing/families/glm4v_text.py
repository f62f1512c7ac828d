"""The text tower of GLM-4.1V: GLM 4's block, a norm before and after each of its halves."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, kv_heads
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head, rope


def document(c: Config) -> Doc:
    """The table. How much of a head is rotated is what the file says; the class has no default but the whole."""
    hidden = c.size("hidden_size", default=4096)
    heads = c.size("num_attention_heads", default=32)
    head_dim = per_head(hidden, heads, c)
    c.must("head_dim", None, head_dim.value, why="the class divides hidden_size by the heads")
    c.must("attention_bias", True, why="the class has biases of queries, keys and values in any case")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=151552),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=32768),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": rope(c, head_dim, theta=10000.0),
        "layers": {
            "count": c.size("num_hidden_layers", default=40),
            "norm": {"kind": "rmsnorm", "placement": "sandwich", "eps": c.number("rms_norm_eps", default=1e-5)},
            "attention": {
                "kind": "gqa",
                "n_heads": heads,
                "n_kv_heads": kv_heads(c, heads, default=2),
                "head_dim": head_dim,
                "qkv_bias": True,
            },
            "ffn": {
                "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                "d_ff": c.size("intermediate_size", default=13696),
            },
        },
    }


FAMILY = Family(document=document, config_class="Glm4vTextConfig", source=TRANSFORMERS, idle=RUNTIME)
