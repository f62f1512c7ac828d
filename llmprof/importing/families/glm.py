"""GLM 4 of 2024 in transformers' own class: LLaMA's block, biases of q, k and v, half of each head rotated."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.glm import decoder


def document(c: Config) -> Doc:
    """The table."""
    return decoder(c, "pre")


FAMILY = Family(document=document, config_class="GlmConfig", source=TRANSFORMERS, idle=RUNTIME)
