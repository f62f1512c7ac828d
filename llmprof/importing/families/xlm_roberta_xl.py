"""XLM-RoBERTa-XL: norms before the blocks and one at the end, none after the embeddings."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.encoders import Sizes, after_padding
from llmprof.importing.encoders import document as encoder
from llmprof.importing.families.roberta import HEAD_ACT
from llmprof.importing.family import TRANSFORMERS, Family


def document(c: Config) -> Doc:
    """The table."""
    sizes = Sizes(
        vocab_size=250880,
        hidden=2560,
        layers=36,
        heads=32,
        d_ff=10240,
        positions=514,
        segments=1,
        eps=1e-5,
    )
    return encoder(
        c,
        sizes,
        "XLMRobertaXL",
        max_context=after_padding(c, sizes),
        placement="pre",
        normed=False,
        head_act=HEAD_ACT,
    )


FAMILY = Family(document=document, config_class="XLMRobertaXLConfig", source=TRANSFORMERS)
