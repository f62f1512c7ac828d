"""BioGPT: pre-norm, learned positions after two unused rows, scaled embeddings."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, multi_head, root
from llmprof.importing.config import Config
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.families.bart import learned
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head


def document(c: Config) -> Doc:
    """The table. ``layer_norm_eps`` is read by no code of the class, whose norms have 1e-5."""
    built_as(c)
    c.ignore("layer_norm_eps")
    hidden = c.size("hidden_size", default=1024)
    heads = c.size("num_attention_heads", default=16)
    positions = c.size("max_position_embeddings", default=1024)
    scaled = c.flag("scale_embedding", default=True)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=42384),
        "d_model": hidden,
        "max_context": positions,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": learned(positions),
        "embedding": {"scale": root(hidden, scaled)} if scaled.value else LEFT_OUT,
        "layers": {
            "count": c.size("num_hidden_layers", default=24),
            "norm": {"kind": "layernorm", "placement": "pre", "eps": 1e-5},
            "attention": multi_head(heads, per_head(hidden, heads, c), bias=True),
            "ffn": {
                "kind": c.choice("hidden_act", of=MLPS, default="gelu"),
                "d_ff": c.size("intermediate_size", default=4096),
                "bias": True,
            },
        },
    }


FAMILY = Family(document=document, config_class="BioGptConfig", source=TRANSFORMERS, idle=frozenset({"is_decoder"}))
