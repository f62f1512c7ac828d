"""The text tower of Qwen2-VL: Qwen2's block, rotated by one index where there are no images."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, count_of_layers, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head
from llmprof.importing.qwen import windowed_above


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=8192)
    heads = c.size("num_attention_heads", default=64)
    head_dim = per_head(hidden, heads, c)
    c.must("head_dim", None, head_dim.value, why="the class divides hidden_size by the heads")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=152064),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=32768),
        "tied_embeddings": c.flag("tie_word_embeddings", default=False),
        "position": whole_rope(c, head_dim, theta=1_000_000.0),
        "layers": windowed_above(
            c,
            count_of_layers(c, default=80),
            {
                "norm": {"kind": "rmsnorm", "placement": "pre", "eps": c.number("rms_norm_eps", default=1e-5)},
                "attention": {
                    "kind": "gqa",
                    "n_heads": heads,
                    "n_kv_heads": kv_heads(c, heads, default=8),
                    "head_dim": head_dim,
                    "qkv_bias": True,
                },
                "ffn": {
                    "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                    "d_ff": c.size("intermediate_size", default=29568),
                },
            },
            above=80,
        ),
    }


FAMILY = Family(document=document, config_class="Qwen2VLTextConfig", source=TRANSFORMERS, idle=RUNTIME)
