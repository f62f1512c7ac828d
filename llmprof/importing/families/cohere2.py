"""Command R7B and A: Command R's block; three layers with a window and rotations to one with neither."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import (
    RUNTIME,
    by_window,
    count_of_layers,
    every,
    interval,
    kv_heads,
    layer_kinds,
    whole_rope,
)
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import GLUS, per_head


def document(c: Config) -> Doc:
    """The table."""
    hidden = c.size("hidden_size", default=8192)
    heads = c.size("num_attention_heads", default=64)
    head_dim = per_head(hidden, heads, c, "head_dim")
    eps = c.number("layer_norm_eps", default=1e-5)
    bias = c.flag("attention_bias", default=False)
    tied = c.flag("tie_word_embeddings", default=True)
    count = count_of_layers(c, default=40)
    step = interval(c, "sliding_window_pattern", "_sliding_window_pattern", "layer_switch", default=4)
    kinds = layer_kinds(
        c,
        count,
        default=every(count, step),
        why=f"every {step} layers one sees all tokens, by sliding_window_pattern or the family's habit",
    )
    # Fields of the release that the class does not read, at the values that it implements.
    c.must("order_of_interleaved_layers", "local_attn_first", why="the class has the layers with a window first")
    c.must("position_embedding_type", "rope_gptj", why="the class rotates neighbours")
    c.must("rotary_pct", 1, why="the class rotates whole heads")
    c.must("use_embedding_sharing", tied.value, why="tie_word_embeddings is what the class reads")
    c.must("use_gated_activation", True, why="the class has a gated feed-forward")
    c.must("use_parallel_block", True, why="the class has parallel blocks")
    c.must("use_qk_norm", False, why="the class norms no queries and keys")
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=256000),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=8192),
        "tied_embeddings": tied,
        "position": whole_rope(c, head_dim, theta=10000.0),
        "layers": by_window(
            c,
            count,
            kinds,
            c.optional_size("sliding_window", default=4096),
            {
                "block": "parallel",
                "norm": {"kind": "layernorm", "placement": "pre", "bias": False, "eps": eps},
                "attention": {
                    "kind": "gqa",
                    "n_heads": heads,
                    "n_kv_heads": kv_heads(c, heads),
                    "head_dim": head_dim,
                    "qkv_bias": bias,
                    "out_bias": bias,
                },
                "ffn": {
                    "kind": c.choice("hidden_act", of=GLUS, default="silu"),
                    "d_ff": c.size("intermediate_size", default=22528),
                },
            },
            everywhere={"position": {"kind": "none"}},
        ),
        "head": {"kind": "lm", "output_scale": c.number("logit_scale", default=0.0625)},
    }


FAMILY = Family(
    document=document, config_class="Cohere2Config", source=TRANSFORMERS, idle=RUNTIME | {"use_parallel_embedding"}
)
