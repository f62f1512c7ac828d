"""The text tower of Qwen2.5-VL, whose class has the fields and the defaults of Qwen2-VL's."""

from __future__ import annotations

from llmprof.importing.dense import RUNTIME
from llmprof.importing.families.qwen2_vl_text import document
from llmprof.importing.family import TRANSFORMERS, Family

FAMILY = Family(document=document, config_class="Qwen2_5_VLTextConfig", source=TRANSFORMERS, idle=RUNTIME)
