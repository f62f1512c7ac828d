"""VaultGemma: Gemma 2 without the norms after the halves of a block."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.gemma import capped


def document(c: Config) -> Doc:
    """The table."""
    return capped(c, "pre")


FAMILY = Family(document=document, config_class="VaultGemmaConfig", source=TRANSFORMERS, idle=RUNTIME)
