"""Megatron's BERT: norms before the blocks and one at the end, none after the embeddings."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.encoders import Sizes
from llmprof.importing.encoders import document as encoder
from llmprof.importing.family import TRANSFORMERS, Family


def document(c: Config) -> Doc:
    """The table."""
    sizes = Sizes(vocab_size=29056, hidden=1024, layers=24, heads=16, d_ff=4096)
    positions = c.size("max_position_embeddings", default=sizes.positions)
    return encoder(c, sizes, "MegatronBert", max_context=positions, placement="pre", normed=False)


FAMILY = Family(document=document, config_class="MegatronBertConfig", source=TRANSFORMERS)
