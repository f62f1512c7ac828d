"""BERT: post-norm, learned positions and segments, exact GELU, a pooler on the bare model."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.encoders import Sizes
from llmprof.importing.encoders import document as encoder
from llmprof.importing.family import TRANSFORMERS, Family


def document(c: Config) -> Doc:
    """The table."""
    sizes = Sizes()
    return encoder(c, sizes, "Bert", max_context=c.size("max_position_embeddings", default=sizes.positions))


FAMILY = Family(document=document, config_class="BertConfig", source=TRANSFORMERS)
