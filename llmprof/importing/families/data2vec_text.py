"""data2vec's model of text: RoBERTa."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.encoders import Sizes, after_padding
from llmprof.importing.encoders import document as encoder
from llmprof.importing.families.roberta import HEAD_ACT
from llmprof.importing.family import TRANSFORMERS, Family


def document(c: Config) -> Doc:
    """The table."""
    sizes = Sizes()
    return encoder(c, sizes, "Data2VecText", max_context=after_padding(c, sizes), head_act=HEAD_ACT)


FAMILY = Family(document=document, config_class="Data2VecTextConfig", source=TRANSFORMERS)
