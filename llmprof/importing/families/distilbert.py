"""DistilBERT: BERT without segments and without a pooler."""

from __future__ import annotations

from llmprof.importing.blocks import encoder_head, multi_head
from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.parts import MLPS, per_head


def document(c: Config) -> Doc:
    """The table. Sinusoidal positions are a stored table in this class."""
    c.must("tie_weights_", True, why="the released field says nothing else")
    hidden = c.size("dim", "hidden_size", default=768)
    heads = c.size("n_heads", "num_attention_heads", default=12)
    positions = c.size("max_position_embeddings", default=512)
    sinusoidal = c.flag("sinusoidal_pos_embds", default=False)
    activation = c.choice("activation", of=MLPS, default="gelu")
    norm: Doc = {"kind": "layernorm", "eps": 1e-12}
    return {
        "structure": "encoder",
        "vocab_size": c.size("vocab_size", default=30522),
        "d_model": hidden,
        "max_context": positions,
        "tied_embeddings": c.flag("tie_word_embeddings", default=True),
        "position": (
            {"kind": "sinusoidal", "stored_rows": positions}
            if sinusoidal.value
            else {"kind": "learned", "rows": positions}
        ),
        "embedding": {"norm": norm},
        "layers": {
            "count": c.size("n_layers", "num_hidden_layers", default=6),
            "norm": {**norm, "placement": "post"},
            "attention": multi_head(heads, per_head(hidden, heads, c), bias=True),
            "ffn": {"kind": activation, "d_ff": c.size("hidden_dim", default=3072), "bias": True},
        },
        **encoder_head(c, "DistilBert", norm=norm, activation=activation, pooler=False),
    }


FAMILY = Family(document=document, config_class="DistilBertConfig", source=TRANSFORMERS)
