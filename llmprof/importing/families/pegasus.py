"""PEGASUS: pre-norm, sinusoids that are stored as a table."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.seq2seq import Layout, Sizes
from llmprof.importing.seq2seq import document as encoder_decoder

LAYOUT = Layout(
    placement="pre",
    normed=False,
    said={
        "add_final_layer_norm": True,
        "normalize_before": True,
        "normalize_embedding": False,
        "static_position_embeddings": True,
    },
)


def document(c: Config) -> Doc:
    """The table."""
    sizes = Sizes()
    positions = c.size("max_position_embeddings", default=sizes.positions)
    position: Doc = {"kind": "sinusoidal", "stored_rows": positions}
    return encoder_decoder(c, sizes, LAYOUT, positions=positions, position=position)


FAMILY = Family(document=document, config_class="PegasusConfig", source=TRANSFORMERS)
