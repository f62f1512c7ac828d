"""BERT for generation, of which the encoder: BERT without segments and without a pooler."""

from __future__ import annotations

from llmprof.importing.blocks import built_as, multi_head
from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head


def document(c: Config) -> Doc:
    """The table. The decoder has the same fields and ``is_decoder``, which stops the import."""
    if built_as(c) not in (None, "BertGenerationEncoder"):
        c.stop("architectures", "BertGenerationEncoder: the decoder is another architecture")
    c.must("position_embedding_type", "absolute", None, why="relative positions have tables that cannot be said")
    c.must("tie_word_embeddings", True, False, why="there is no output matrix")
    hidden = c.size("hidden_size", default=1024)
    heads = c.size("num_attention_heads", default=16)
    positions = c.size("max_position_embeddings", default=512)
    norm: Doc = {"kind": "layernorm", "eps": c.number("layer_norm_eps", default=1e-12)}
    return {
        "structure": "encoder",
        "vocab_size": c.size("vocab_size", default=50358),
        "d_model": hidden,
        "max_context": positions,
        "tied_embeddings": False,
        "position": {"kind": "learned", "rows": positions},
        "embedding": {"norm": norm},
        "layers": {
            "count": c.size("num_hidden_layers", default=24),
            "norm": {**norm, "placement": "post"},
            "attention": multi_head(heads, per_head(hidden, heads, c), bias=True),
            "ffn": {
                "kind": c.choice("hidden_act", of=MLPS, default="gelu"),
                "d_ff": c.size("intermediate_size", default=4096),
                "bias": True,
            },
        },
        "head": {"kind": "none"},
    }


FAMILY = Family(document=document, config_class="BertGenerationConfig", source=TRANSFORMERS)
