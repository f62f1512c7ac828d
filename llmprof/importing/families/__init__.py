"""One file per family, named as its ``model_type``. `ALSO` has the further names under which a family is released."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from llmprof.importing.family import Family

ALSO: Mapping[str, str] = MappingProxyType({})
"""A ``model_type`` -> the file whose table reads it."""


def known() -> tuple[str, ...]:
    """Every ``model_type`` that has a table, sorted."""
    files = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted({*files, *ALSO}))


def family(model_type: str) -> Family | None:
    """The table of a ``model_type``, or None where there is none. Only that one file is imported."""
    name = ALSO.get(model_type, model_type)
    if name not in {module.name for module in pkgutil.iter_modules(__path__)}:
        return None
    found: Family = importlib.import_module(f"{__name__}.{name}").FAMILY
    return found
