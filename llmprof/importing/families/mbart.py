"""mBART: BART with the norms before the blocks and one at the end of each stack."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.families.bart import learned
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.seq2seq import Layout, Sizes
from llmprof.importing.seq2seq import document as encoder_decoder

LAYOUT = Layout(
    placement="pre",
    normed=True,
    said={
        "add_final_layer_norm": True,
        "normalize_before": True,
        "normalize_embedding": True,
        "static_position_embeddings": False,
    },
)


def document(c: Config) -> Doc:
    """The table."""
    sizes = Sizes()
    positions = c.size("max_position_embeddings", default=sizes.positions)
    return encoder_decoder(c, sizes, LAYOUT, positions=positions, position=learned(positions))


FAMILY = Family(document=document, config_class="MBartConfig", source=TRANSFORMERS)
