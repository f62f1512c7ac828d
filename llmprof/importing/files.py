"""Which reader a file of the world goes to, by what it is."""

from __future__ import annotations

import os
import re
from pathlib import Path

from llmprof.importing import CONFIG
from llmprof.importing.read import Imported, read_config
from llmprof.spec.source import whole_file

SAFETENSORS = (".safetensors", ".safetensors.index.json")
GGUF = ".gguf"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""A URL, whose second slash a path has lost."""


def read_file(path: Path, *, name: str | None = None) -> Imported:
    """The architecture in a config, in the header of a GGUF file, or in a folder that has one of the two.

    A safetensors file names tensors and no architecture: the config beside it is read. Raises SpecError where there is
    none, or where it is not understood.
    """
    # os.path says no where a Path raises, as for a name that is too long: opening it then says what is wrong.
    is_folder = os.path.isdir(path)
    if not is_folder and not os.path.lexists(path) and _ADDRESS.match(str(path)):
        raise whole_file(
            str(path), "an address", "a file or folder of this machine", hint="nothing is downloaded; fetch it first"
        )
    if path.name.lower().endswith(GGUF) and not is_folder:
        return _gguf(path, name)
    if path.name.lower().endswith(SAFETENSORS) and not is_folder:
        if not os.path.exists(path):
            raise whole_file(str(path), "no such file", "a safetensors file")
        beside = path.with_name(CONFIG)
        if os.path.isfile(beside):
            return read_config(beside, name=name)
        raise whole_file(
            str(path),
            f"tensors without an architecture, and no {CONFIG} beside them",
            f"the {CONFIG} of the model, or a spec",
            hint="`llmprof compare SPEC FILE` explains a file of weights by a spec",
        )
    if is_folder and not os.path.isfile(path / CONFIG):
        files = _ggufs(path)
        if len(files) == 1:
            return _gguf(files[0], name)
        found = f"a folder without {CONFIG}" + (f", and with {len(files):,} GGUF files" if files else "")
        raise whole_file(str(path), found, "a folder with one, or the file itself")
    return read_config(path, name=name)


def _ggufs(folder: Path) -> list[Path]:
    """The GGUF files in a folder, sorted. SpecError where it cannot be read."""
    try:
        return sorted(each for each in folder.iterdir() if each.name.lower().endswith(GGUF))
    except OSError as error:
        raise whole_file(str(folder), f"cannot be read: {error.strerror}", f"a folder with {CONFIG}") from None


def _gguf(path: Path, name: str | None) -> Imported:
    from llmprof.importing.gguf.read import read_gguf_spec  # the readers of headers are of no use to a config

    return read_gguf_spec(path, name=name)
