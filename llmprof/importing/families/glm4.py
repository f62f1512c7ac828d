"""GLM 4 of April 2025: GLM's block with a norm before and after each of its halves."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.glm import decoder


def document(c: Config) -> Doc:
    """The table."""
    return decoder(c, "sandwich")


FAMILY = Family(document=document, config_class="Glm4Config", source=TRANSFORMERS, idle=RUNTIME)
