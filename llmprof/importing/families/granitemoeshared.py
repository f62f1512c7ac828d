"""Granite's experts beside a shared one."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.granite import granite_experts, shared_width


def document(c: Config) -> Doc:
    """The table."""
    return granite_experts(c, shared=shared_width(c))


FAMILY = Family(document=document, config_class="GraniteMoeSharedConfig", source=TRANSFORMERS, idle=RUNTIME)
