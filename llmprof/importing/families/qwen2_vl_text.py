"""The text tower of Qwen2-VL: Qwen2's block, rotated by one index where there are no images."""

from __future__ import annotations

from dataclasses import dataclass

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME, count_of_layers, kv_heads, whole_rope
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head
from llmprof.importing.qwen import windowed_above


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a class takes for fields that a file does not have."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    rms_norm_eps: float
    max_window_layers: int
    tie_word_embeddings: bool


DEFAULTS = Defaults(
    hidden_size=8192,
    intermediate_size=29568,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
    rms_norm_eps=1e-5,
    max_window_layers=80,
    tie_word_embeddings=False,
)


def document(c: Config) -> Doc:
    """The table."""
    return decoder(c, DEFAULTS)


def decoder(c: Config, d: Defaults) -> Doc:
    """The document of a tower with the fields of Qwen2-VL's and the defaults `d`."""
    hidden = c.size("hidden_size", default=d.hidden_size)
    heads = c.size("num_attention_heads", default=d.num_attention_heads)
    head_dim = per_head(hidden, heads, c)
    c.must("head_dim", None, head_dim.value, why="the class divides hidden_size by the heads")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=152064),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=32768),
        "tied_embeddings": c.flag("tie_word_embeddings", default=d.tie_word_embeddings),
        "position": whole_rope(c, head_dim, theta=1_000_000.0),
        "layers": windowed_above(
            c,
            count_of_layers(c, default=d.num_hidden_layers),
            {
                "norm": {
                    "kind": "rmsnorm",
                    "placement": "pre",
                    "eps": c.number("rms_norm_eps", default=d.rms_norm_eps),
                },
                "attention": {
                    "kind": "gqa",
                    "n_heads": heads,
                    "n_kv_heads": kv_heads(c, heads, default=d.num_key_value_heads),
                    "head_dim": head_dim,
                    "qkv_bias": True,
                },
                "ffn": {
                    "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                    "d_ff": c.size("intermediate_size", default=d.intermediate_size),
                },
            },
            above=d.max_window_layers,
        ),
    }


FAMILY = Family(document=document, config_class="Qwen2VLTextConfig", source=TRANSFORMERS, idle=RUNTIME)
