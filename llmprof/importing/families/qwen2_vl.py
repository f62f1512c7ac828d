"""Qwen2-VL: the tower of text, under ``text_config``, or its fields among the others as in the first releases."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.towers import flat_text_tower, text_tower


def document(c: Config) -> Doc:
    """The table."""
    if c.has("text_config"):
        return text_tower(c, "qwen2_vl_text", tied=False, either=True)
    return flat_text_tower(c, "qwen2_vl_text", tied=False)


FAMILY = Family(document=document, config_class=None, source=TRANSFORMERS)
