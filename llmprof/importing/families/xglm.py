"""XGLM: pre-norm, sinusoids that are computed, scaled embeddings."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, multi_head, root
from llmprof.importing.config import Config
from llmprof.importing.document import LEFT_OUT, Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head


def document(c: Config) -> Doc:
    """The table."""
    built_as(c)
    hidden = c.size("d_model", "hidden_size", default=1024)
    heads = c.size("attention_heads", "num_attention_heads", default=16)
    scaled = c.flag("scale_embedding", default=True)
    return {
        "structure": "causal-decoder",
        "vocab_size": c.size("vocab_size", default=256008),
        "d_model": hidden,
        "max_context": c.size("max_position_embeddings", default=2048),
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": {"kind": "sinusoidal"},
        "embedding": {"scale": root(hidden, scaled)} if scaled.value else LEFT_OUT,
        "layers": {
            "count": c.size("num_layers", "num_hidden_layers", default=24),
            "norm": {"kind": "layernorm", "placement": "pre", "eps": 1e-5},
            "attention": multi_head(heads, per_head(hidden, heads, c), bias=True),
            "ffn": {
                "kind": c.choice("activation_function", of=MLPS, default="gelu"),
                "d_ff": c.size("ffn_dim", default=4096),
                "bias": True,
            },
        },
    }


FAMILY = Family(
    document=document, config_class="XGLMConfig", source=TRANSFORMERS, idle=frozenset({"is_decoder", "newlinemode"})
)
