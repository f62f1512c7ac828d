"""Granite 3 1B-A400M and 3B-A800M, PowerMoE: Granite's factors, and experts in every layer."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.granite import granite_experts


def document(c: Config) -> Doc:
    """The table."""
    return granite_experts(c, shared=None)


FAMILY = Family(document=document, config_class="GraniteMoeConfig", source=TRANSFORMERS, idle=RUNTIME)
