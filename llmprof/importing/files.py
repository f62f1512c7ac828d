"""Which reader a file of the world goes to, by what it is."""

from __future__ import annotations

from pathlib import Path

from llmprof.importing.read import CONFIG, Imported, read_config
from llmprof.spec.source import whole_file


def read_file(path: Path, *, name: str | None = None) -> Imported:
    """The architecture in a config, or in a folder that has one.

    Raises SpecError where there is none, or where it is not understood.
    """
    if path.is_dir() and not (path / CONFIG).is_file():
        raise whole_file(str(path), f"a folder without {CONFIG}", "a folder with one, or the file itself")
    return read_config(path, name=name)
