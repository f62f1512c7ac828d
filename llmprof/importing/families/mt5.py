"""mT5: the shape of T5 1.1, with a vocabulary for 101 languages."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.families.t5 import Sizes, encoder_decoder
from llmprof.importing.family import TRANSFORMERS, Family


def document(c: Config) -> Doc:
    """The table. The class does not scale what its output matrix multiplies."""
    sizes = Sizes(vocab_size=250112, d_ff=1024, layers=8, heads=6, feed_forward="gated-gelu", scaled=False)
    return encoder_decoder(c, sizes)


FAMILY = Family(document=document, config_class="MT5Config", source=TRANSFORMERS)
