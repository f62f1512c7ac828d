"""OPT and Galactica: learned positions after two unused rows; the 350M has post-norm and a narrower token table."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, multi_head, off, on
from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head

UNUSED_ROWS = 2


def document(c: Config) -> Doc:
    """The table."""
    built_as(c)
    on(c, "learned_embeddings", why="the class knows no other positions")
    off(c, "scale_embeddings", why="the class never scales embeddings")
    hidden = c.size("hidden_size", default=768)
    heads = c.size("num_attention_heads", default=12)
    width = c.size("word_embed_proj_dim", default=hidden)
    positions = c.size("max_position_embeddings", default=2048)
    bias = c.flag("enable_bias", default=True)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=50272),
        "d_model": hidden,
        "max_context": positions,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": {
            "kind": "learned",
            "rows": inferred(positions.value + UNUSED_ROWS, f"{UNUSED_ROWS} rows in front are not used", positions),
        },
        "embedding": {"width": width} if width.value != hidden.value else LEFT_OUT,
        "layers": {
            "count": c.size("num_hidden_layers", default=12),
            **_norms(c),
            "attention": multi_head(heads, per_head(hidden, heads, c), bias=bias),
            "ffn": {
                "kind": c.choice("activation_function", of=MLPS, default="relu"),
                "d_ff": c.size("ffn_dim", default=3072),
                "bias": bias,
            },
        },
    }


def _norms(c: Config) -> Doc:
    """The norms of the layers, and the final one: there is none after post-norm layers, and a flag takes it away."""
    first = c.flag("do_layer_norm_before", default=True)
    affine = c.flag("layer_norm_elementwise_affine", default=True)
    removed = c.flag("_remove_final_layer_norm", default=False)
    final = Read("none", removed.keys) if first.value and removed.value else Read(LEFT_OUT, removed.keys)
    placement = Read("pre" if first.value else "post", first.keys, first.note)
    return {
        "norm": {"kind": "layernorm", "placement": placement, "weight": affine, "bias": affine, "eps": 1e-5},
        "final_norm": final,
    }


FAMILY = Family(document=document, config_class="OPTConfig", source=TRANSFORMERS, idle=frozenset({"output_projection"}))
"""OPT-13B says ``output_projection``, which no class reads."""
