"""Gemma 2: a norm before and after each half of a block, a window in every second layer, capped scores and logits."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.gemma import capped


def document(c: Config) -> Doc:
    """The table."""
    return capped(c, "sandwich")


FAMILY = Family(document=document, config_class="Gemma2Config", source=TRANSFORMERS, idle=RUNTIME)
