"""RoBERTa: BERT whose positions count from behind the padding's row."""

from __future__ import annotations

from llmprof.importing.config import Config, Read
from llmprof.importing.document import Doc
from llmprof.importing.encoders import Sizes, after_padding
from llmprof.importing.encoders import document as encoder
from llmprof.importing.family import TRANSFORMERS, Family

HEAD_ACT = Read("gelu")
"""Whatever the layers have."""


def document(c: Config) -> Doc:
    """The table."""
    sizes = Sizes(vocab_size=50265)
    return encoder(c, sizes, "Roberta", max_context=after_padding(c, sizes), head_act=HEAD_ACT)


FAMILY = Family(document=document, config_class="RobertaConfig", source=TRANSFORMERS)
