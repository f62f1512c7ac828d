"""BART: post-norm, a norm after the embeddings, learned positions after two unused rows."""

from __future__ import annotations

from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.seq2seq import Layout, Sizes
from llmprof.importing.seq2seq import document as encoder_decoder

LAYOUT = Layout(
    placement="post",
    normed=True,
    said={
        "add_final_layer_norm": False,
        "normalize_before": False,
        "normalize_embedding": True,
        "static_position_embeddings": False,
    },
)
UNUSED_ROWS = 2


def learned(positions: Read[int]) -> Doc:
    """Learned positions with two rows in front that no token has."""
    rows = inferred(positions.value + UNUSED_ROWS, f"{UNUSED_ROWS} rows in front are not used", positions)
    return {"kind": "learned", "rows": rows}


def document(c: Config) -> Doc:
    """The table."""
    sizes = Sizes()
    positions = c.size("max_position_embeddings", default=sizes.positions)
    return encoder_decoder(c, sizes, LAYOUT, positions=positions, position=learned(positions))


FAMILY = Family(document=document, config_class="BartConfig", source=TRANSFORMERS)
