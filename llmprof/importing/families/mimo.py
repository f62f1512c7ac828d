"""MiMo 7B: Qwen 2's block, and layers that predict further tokens."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.dense import RUNTIME
from llmprof.importing.document import Doc
from llmprof.importing.families import qwen2
from llmprof.importing.family import Family


def document(c: Config) -> Doc:
    """Qwen 2's table, whose class this one extends."""
    c.must("attention_bias", True, why="queries, keys and values have biases in any case")
    c.must("use_sliding_window", False, why="how layers that predict further tokens use a window is not known here")
    made = qwen2.document(c)
    count = c.size("num_nextn_predict_layers", default=0, least=0)
    return made | ({"mtp": {"count": count, "like": "layers"}} if count.value else {})


FAMILY = Family(
    document=document,
    config_class=None,
    source="https://huggingface.co/XiaomiMiMo/MiMo-7B-Base, configuration_mimo.py and modeling_mimo.py, recalled",
    idle=RUNTIME,
)
