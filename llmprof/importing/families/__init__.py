"""One file per family, named as its ``model_type``. `ALSO` has the further names under which a family is released.

A ``model_type`` that Python could not import is in `SPELLED`, and its file is named in lower case with underscores.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from types import MappingProxyType

from llmprof.importing.family import Family

ALSO: Mapping[str, str] = MappingProxyType(
    {"bailing_moe_v2": "bailing_moe", "kimi_k2": "deepseek_v3", "telechat2": "telechat"}
)
"""A ``model_type`` -> the file, of another ``model_type``, whose table reads it."""

SPELLED: Mapping[str, str] = MappingProxyType(
    {
        "RefinedWeb": "refined_web",
        "RefinedWebModel": "refined_web_model",
        "Yi": "yi",
        "phi-msft": "phi_msft",
        "bert-generation": "bert_generation",
        "data2vec-text": "data2vec_text",
        "megatron-bert": "megatron_bert",
        "nemotron-nas": "nemotron_nas",
        "openai-gpt": "openai_gpt",
        "xlm-roberta": "xlm_roberta",
        "xlm-roberta-xl": "xlm_roberta_xl",
    }
)
"""A ``model_type`` that is no name of a Python module -> its file."""


def known() -> tuple[str, ...]:
    """Every ``model_type`` that has a table, sorted."""
    files = {name.removesuffix(".py") for name in os.listdir(__path__[0]) if name.endswith(".py") and name[0] != "_"}
    return tuple(sorted({*files - set(SPELLED.values()), *ALSO, *SPELLED}))


def family(model_type: str) -> Family | None:
    """The table of a ``model_type``, or None where there is none. Only that one file is imported."""
    if model_type not in known():
        return None
    name = SPELLED.get(model_type) or ALSO.get(model_type, model_type)
    found: Family = importlib.import_module(f"{__name__}.{name}").FAMILY
    return found
