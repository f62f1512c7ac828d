"""Which references are files of weights, and reading them."""

from __future__ import annotations

import os
from pathlib import Path

from llmprof.catalog import is_foreign
from llmprof.importing.headers.gguf import read_gguf
from llmprof.importing.headers.safetensors import read_safetensors
from llmprof.importing.headers.shards import INDEX, read_folder, read_index
from llmprof.importing.headers.tensor import StoredFile
from llmprof.spec.source import whole_file

GGUF, SAFETENSORS = ".gguf", ".safetensors"


def is_weights(ref: str) -> bool:
    """Whether a reference is surely a file of weights, an index of such files, or a folder that has some.

    A folder that is called like a model of the catalogue is the model, as everywhere.
    """
    return _is_named_so(ref) or (is_foreign(ref) and bool(_weights_in(Path(ref))))


def read_weights(path: Path) -> StoredFile:
    """The headers of a file, of the shards that an index names, or of the release in a folder.

    Raises SpecError where there is none, or where one is wrong.
    """
    name = path.name.lower()
    if os.path.isdir(path):
        names = _weights_in(path)
        ggufs = [each for each in names if each.lower().endswith(GGUF)]
        if not ggufs:
            return read_folder(path)
        if len(names) == 1:
            return read_gguf(path / ggufs[0])
        raise whole_file(
            str(path),
            f"{len(ggufs)} GGUF files among {len(names)} files of weights",
            "one release",
            hint="name its file, or the first of its parts",
        )
    if name.endswith(INDEX):
        return read_index(path)
    return read_gguf(path) if name.endswith(GGUF) else read_safetensors(path)


def _is_named_so(name: str) -> bool:
    return name.lower().endswith((SAFETENSORS, INDEX, GGUF))


def _weights_in(folder: Path) -> list[str]:
    """The names of the files of weights in a folder, sorted; none where it is no folder that can be read."""
    try:
        return sorted(each.name for each in folder.iterdir() if _is_named_so(each.name))
    except OSError:
        return []
