"""GLM-4.1V: the tower of text, under ``text_config``, or its fields among the others as in the first release."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.towers import flat_text_tower, text_tower


def document(c: Config) -> Doc:
    """The table; the tower is of ``glm4v_text`` where it does not say what it is.

    The class does not read the fields of the first release; their sizes are its defaults.
    """
    if c.has("text_config"):
        return text_tower(c, "glm4v_text", tied=False, either=True)
    return flat_text_tower(c, "glm4v_text", tied=False)


FAMILY = Family(document=document, config_class=None, source=TRANSFORMERS)
