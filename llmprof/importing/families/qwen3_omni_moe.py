"""Qwen3-Omni: the tower of text of its thinker; the talker, which makes sound of what is thought, is left out."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.read import table
from llmprof.importing.towers import leave_out_the_rest


def document(c: Config) -> Doc:
    """The table."""
    doc = table(c.tower("thinker_config"), "qwen3_omni_moe_thinker")
    leave_out_the_rest(c, "the thinker (thinker_config)")
    return doc


FAMILY = Family(document=document, config_class=None, source=TRANSFORMERS)
