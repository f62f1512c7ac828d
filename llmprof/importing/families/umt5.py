"""UMT5: the shape of T5 1.1 with a table of relative positions in every layer."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.families.t5 import Sizes, encoder_decoder
from llmprof.importing.family import TRANSFORMERS, Family


def document(c: Config) -> Doc:
    """The table. The class scales what a tied output matrix multiplies, whatever else the config says."""
    c.must("scale_decoder_outputs", c.raw("tie_word_embeddings") is not False, why="the class scales tied logits alone")
    c.must("scalable_attention", True, why="what the releases were trained with, and no class reads")
    sizes = Sizes(vocab_size=250112, d_ff=1024, layers=8, heads=6, feed_forward="gated-gelu")
    made = encoder_decoder(c, sizes)
    return {**made, "position": {**made["position"], "per_layer": True}}


FAMILY = Family(document=document, config_class="UMT5Config", source=TRANSFORMERS)
