"""PLBART: BART of another size."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.families.bart import LAYOUT, learned
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.seq2seq import Sizes
from llmprof.importing.seq2seq import document as encoder_decoder


def document(c: Config) -> Doc:
    """The table."""
    sizes = Sizes(vocab_size=50005, d_model=768, layers=(6, 6), heads=12, d_ff=3072, scaled=True)
    positions = c.size("max_position_embeddings", default=sizes.positions)
    return encoder_decoder(c, sizes, LAYOUT, positions=positions, position=learned(positions))


FAMILY = Family(document=document, config_class="PLBartConfig", source=TRANSFORMERS)
