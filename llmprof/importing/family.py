"""What a family is: a table from the fields of a config to the keys of a spec. One file each, in `families/`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmprof.importing.config import Config
from llmprof.importing.document import Doc


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How configs of one ``model_type`` are read.

    `document` is the table: it reads every field that decides a shape and returns the spec's document, from
    ``structure`` on; name, source and notes are added by the reader. `config_class` is transformers' class whose
    defaults and fields the table has (None where transformers has none), `source` where the table was read. `idle`
    are fields of the class that decide no shape, no kernel and no byte; those that any config may have are in
    `common.py`.
    """

    document: Callable[[Config], Doc]
    config_class: str | None
    source: str
    idle: frozenset[str] = frozenset()


TRANSFORMERS = "transformers 5.23.0, https://pypi.org/project/transformers/5.23.0/, read 2026-11-24"
"""Where most tables were read: the configuration and the modeling file of the family."""
