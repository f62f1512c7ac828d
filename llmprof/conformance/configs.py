"""The config.json of a spec: its own file where it was imported from one, else what the catalogue carries for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmprof import catalog
from llmprof.importing import CONFIG, jsontext

FOLDER = "configs"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """A config and where it stands. `is_origin`: the spec was read from it, so that the two cannot disagree."""

    path: Path
    values: Mapping[str, Any]
    is_origin: bool

    @property
    def model_type(self) -> str:
        """The family, or an empty text."""
        kind = self.values.get("model_type")
        return kind if isinstance(kind, str) else ""


def read(path: Path, *, is_origin: bool = False) -> ConfigFile:
    """A config file, or the one in a folder. Raises SpecError where it is no strict JSON."""
    file = path / CONFIG if os.path.isdir(path) else path
    return ConfigFile(path=file, values=jsontext.read(file).root, is_origin=is_origin)


def carried(name: str) -> Path | None:
    """The config that the catalogue carries for a spec of this name; SOURCES.csv beside it says where it is from."""
    path = catalog.root() / FOLDER / f"{name}.json"
    return path if path.is_file() else None


def names() -> list[str]:
    """Every spec that has one, sorted."""
    return sorted(path.stem for path in (catalog.root() / FOLDER).glob("*.json"))
