"""InternVL 2 to 3.5 and what was released in their own code: the tower of text stands under ``llm_config``."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.family import Family
from llmprof.importing.towers import text_tower


def document(c: Config) -> Doc:
    """The table. The tower is a whole model made of its own config, whose flag is the one that counts."""
    c.must("use_llm_lora", 0, why="adapters in the tower of text")
    return text_tower(c, None, key="llm_config", tied="tower")


FAMILY = Family(
    document=document,
    config_class=None,
    source="configuration_internvl_chat.py and modeling_internvl_chat.py of OpenGVLab/InternVL2_5-8B, read in public "
    "copies, 2026-11-30",
    # How images are cut and which layer of the vision tower is taken; the words around a prompt.
    idle=frozenset(
        {
            "dynamic_image_size",
            "image_fold",
            "max_dynamic_patch",
            "min_dynamic_patch",
            "pad2square",
            "ps_version",
            "select_layer",
            "system_message",
            "template",
            "use_backbone_lora",
            "use_thumbnail",
        }
    ),
)
